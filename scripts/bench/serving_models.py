"""What the serving peers of `make bench` serve: Safari's own TorchScript files, in the way of peer.py, and two that do
next to nothing. One picture a forward and one thread, as in Safari; how many processes there are is the server's matter.
"""

import base64
import io
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from peer import Peer, decode, pixels

TINY = Path(__file__).parents[2] / "serving" / "tests" / "models"


class Wildlife(Peer):
    """The shipped networks: they take bytes and normalise them."""

    def __init__(self, folder):
        torch.set_num_threads(1)
        self.boxes = torch.jit.load(Path(folder) / "detector.pt").eval()
        self.embedder = torch.jit.load(Path(folder) / "embedder.pt").eval()
        self.names = [str(number) for number in range(1000)]

    def boxes_input(self, inputs):
        return inputs

    def embedder_input(self, crops):
        return crops

    def look_at(self, jpeg):
        image = decode(io.BytesIO(jpeg))
        return self.look(pixels(image, 300)[None], [torch.from_numpy(np.array(image))])[0]


class Plain:
    """A table of four rows, and the length of what comes."""

    def __init__(self):
        torch.set_num_threads(1)
        self.table = torch.jit.load(TINY / "lookup" / "model.pt").eval()
        self.length = torch.jit.load(TINY / "length" / "model.pt").eval()

    @torch.inference_mode()
    def row(self, index):
        return self.table(torch.tensor(index)).tolist()

    @torch.inference_mode()
    def count(self, payload):
        return self.length(torch.frombuffer(bytearray(payload), dtype=torch.uint8)).tolist()


def from_base64(text):
    return base64.b64decode(text)
