"""What a careful Python engineer writes with the two original TorchScript files: the peer of `make bench`.

A torch DataLoader whose workers read and decode with Pillow (at a reduced DCT scale), boxes by SSDLite, non-maximum
suppression, the crop of every animal through EfficientNet-Lite0, the best five names of each. A photograph without
boxes is shown to the embedder as a whole, as Safari does. The rules are those of reference.py beside the networks.

usage: peer.py --models DIR FOLDER                 looks at all photographs below FOLDER
       peer.py --models DIR FOLDER --tune          times settings on the first photographs and prints the fastest
       peer.py --models DIR --one PHOTO            looks at one photograph without a DataLoader
       peer.py --check                             only imports what it needs

Prints one JSON object. `seconds` counts from the first read to the last name, `load_seconds` the time before that.
"""

import argparse
import itertools
import json
import os
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

START = time.perf_counter()

import numpy as np  # noqa: E402
import torch  # noqa: E402
from PIL import Image  # noqa: E402
from torch.utils.data import DataLoader, Dataset  # noqa: E402

ANIMALS = slice(16, 26)  # COCO ids
MIN_SIDE = 600  # pixels that the shorter side keeps, as in Safari
THRESHOLD, IOU, LIMIT = 0.3, 0.5, 10
CORES = len(os.sched_getaffinity(0))


@dataclass(frozen=True)
class Settings:
    """How the work is spread: processes that decode, threads of a forward, photographs in a forward."""

    workers: int
    threads: int
    batch: int


def decode(path):
    with Image.open(path) as image:
        image.draft("RGB", (MIN_SIDE, MIN_SIDE))
        return image.convert("RGB")


def pixels(image, side):
    return torch.from_numpy(np.array(image.resize((side, side), Image.BILINEAR)))


class Photographs(Dataset):
    def __init__(self, files):
        self.files = files

    def __len__(self):
        return len(self.files)

    def __getitem__(self, index):
        image = decode(self.files[index])
        return index, pixels(image, 300), torch.from_numpy(np.array(image))


def collate(samples):
    indices, inputs, pictures = zip(*samples)
    return indices, torch.stack(inputs), pictures


class Peer:
    def __init__(self, models):
        self.names = (models / "imagenet_names.txt").read_text().splitlines()
        self.boxes = torch.jit.load(models / "ssdlite_mobilenet_v2_coco.pt").eval()
        self.embedder = torch.jit.load(models / "efficientnet_lite0_imagenet.pt").eval()

    @torch.inference_mode()
    def look(self, inputs, pictures):
        """Kept boxes of each picture, each with its five best names."""
        # Without the executor's optimisations, which make the first calls slow and later ones no faster.
        with torch.jit.optimized_execution(False):
            return self.forward(inputs, pictures)

    def boxes_input(self, inputs):
        return inputs.permute(0, 3, 1, 2).float() / 127.5 - 1

    def embedder_input(self, crops):
        return (crops.permute(0, 3, 1, 2).float() - 127) / 128

    def forward(self, inputs, pictures):
        boxes, scores, _ = self.boxes(self.boxes_input(inputs))
        found = [suppress(b, s) for b, s in zip(boxes.numpy(), scores[:, :, ANIMALS].numpy())]
        crops = []
        for kept, picture in zip(found, pictures):
            image = Image.fromarray(picture.numpy())
            crops += [pixels(crop(image, k["box"]), 224) for k in kept]
        top = self.embedder(self.embedder_input(torch.stack(crops)))[1].softmax(1).topk(5)
        names = iter(zip(top.indices.tolist(), top.values.tolist()))
        for kept in found:
            for k in kept:
                k["top5"] = [[self.names[i], round(v, 4)] for i, v in zip(*next(names))]
        return found


def suppress(boxes, scores):
    best = scores.max(1)
    order = np.flatnonzero(best >= THRESHOLD)
    order = order[np.argsort(-best[order])]
    boxes = boxes.clip(0, 1)
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    kept = []
    while len(order) and len(kept) < LIMIT:
        i, order = order[0], order[1:]
        kept.append({"box": [round(float(v), 4) for v in boxes[i]], "score": round(float(best[i]), 4),
                     "coco": int(scores[i].argmax()) + ANIMALS.start})
        low, high = np.maximum(boxes[i, :2], boxes[order, :2]), np.minimum(boxes[i, 2:], boxes[order, 2:])
        shared = (high - low).clip(0).prod(1)
        order = order[shared / (area[i] + area[order] - shared + 1e-9) < IOU]
    return kept or [{"box": [0.0, 0.0, 1.0, 1.0], "score": 0.0, "coco": 0}]


def crop(image, box):
    top, left, bottom, right = box
    width, height = right - left, bottom - top
    left, right = max(0, left - width / 10), min(1, right + width / 10)
    top, bottom = max(0, top - height / 10), min(1, bottom + height / 10)
    return image.crop((int(left * image.width), int(top * image.height),
                       int(right * image.width + 0.5), int(bottom * image.height + 0.5)))


def look_at_all(peer, files, settings, give_up=None):
    """Detections of each file; None if it takes more than `give_up` seconds."""
    torch.set_num_threads(settings.threads)
    loader = DataLoader(Photographs(files), batch_size=settings.batch, num_workers=settings.workers, collate_fn=collate)
    start, found = time.perf_counter(), {}
    for indices, inputs, pictures in loader:
        for index, kept in zip(indices, peer.look(inputs, pictures)):
            found[str(files[index])] = kept
        if give_up and time.perf_counter() - start > give_up:
            return None
    return found


def tune(peer, files):
    """The fastest settings: each tried once, the fastest three once more."""
    some = sorted({1, max(1, CORES // 2), CORES})
    trials = [Settings(*parts) for parts in itertools.product(some, some, (1, 4, 8))]
    look_at_all(peer, files[:8], trials[0])
    seconds = {}
    for settings in trials:
        seconds[settings] = timed(peer, files, settings, 3 * min(seconds.values(), default=float("inf")))
    for settings in sorted(seconds, key=seconds.get)[:3]:
        seconds[settings] = min(seconds[settings], timed(peer, files, settings))
    best = min(seconds, key=seconds.get)
    # A setting that was given up has the rate 0.
    rates = [{**asdict(s), "images_per_second": round(len(files) / t, 2)} for s, t in seconds.items()]
    return {"best": asdict(best), "images": len(files), "trials": rates}


def timed(peer, files, settings, give_up=None):
    start = time.perf_counter()
    whole = look_at_all(peer, files, settings, give_up) is not None
    return time.perf_counter() - start if whole else float("inf")


def look_at_one(peer, path):
    image = decode(path)
    return peer.look(pixels(image, 300)[None], [torch.from_numpy(np.array(image))])[0]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, help="folder of JPEGs, looked through with all folders below")
    parser.add_argument("--models", type=Path, help="folder with the two original TorchScript files")
    parser.add_argument("--one", type=Path, metavar="PHOTO", help="look at one photograph")
    parser.add_argument("--tune", action="store_true", help="find the fastest settings")
    parser.add_argument("--limit", type=int, help="photographs to take from the folder")
    parser.add_argument("--workers", type=int, default=1, help="processes that read and decode")
    parser.add_argument("--threads", type=int, default=CORES, help="threads of a forward")
    parser.add_argument("--batch", type=int, default=1, help="photographs in a forward")
    parser.add_argument("--output", type=Path, help="file for the detections")
    parser.add_argument("--check", action="store_true", help="only import")
    args = parser.parse_args()
    if args.check:
        print(json.dumps({"torch": torch.__version__, "pillow": Image.__version__}))
        return
    if not args.models or not (args.folder or args.one):
        parser.error("--models and a folder or --one are needed")
    peer = Peer(args.models)
    if args.one:
        print(json.dumps({str(args.one): look_at_one(peer, args.one)}))
        return
    files = sorted(p for p in args.folder.rglob("*") if p.suffix.lower() in (".jpg", ".jpeg"))[:args.limit]
    if not files:
        sys.exit(f"error: {args.folder} holds no JPEG")
    if args.tune:
        print(json.dumps(tune(peer, files)))
        return
    loaded = time.perf_counter()
    found = look_at_all(peer, files, Settings(args.workers, args.threads, args.batch))
    end = time.perf_counter()
    if args.output:
        args.output.write_text(json.dumps(found, indent=1))
    boxes = sum(k["score"] > 0 for kept in found.values() for k in kept)
    print(json.dumps({"images": len(found), "boxes": boxes, "seconds": end - loaded, "load_seconds": loaded - START}))


if __name__ == "__main__":
    main()
