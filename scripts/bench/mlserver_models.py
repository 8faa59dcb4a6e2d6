"""Runtimes of MLServer with the models of serving_models.py, and the program that writes a folder for `mlserver start`: a
peer of the section `serving` of `make bench`.

usage: mlserver_models.py --model DIR --port PORT --workers COUNT FOLDER
"""

import argparse
import json
import socket
from pathlib import Path

MODELS = {"detections": "Detections", "row": "Row", "length": "Length"}

try:
    from mlserver import MLModel
    from mlserver.codecs import Base64Codec, NumpyCodec, StringCodec
    from mlserver.types import InferenceResponse
    from serving_models import Plain, Wildlife
except ImportError as error:
    raise SystemExit(f"error: {error}; run scripts/setup --bench") from error


class Detections(MLModel):
    """A JPEG as base64: boxes and names as JSON."""

    async def load(self):
        self.wildlife = Wildlife(self.settings.parameters.uri)
        return True

    async def predict(self, payload):
        [jpeg] = Base64Codec.decode_input(payload.inputs[0])
        found = json.dumps(self.wildlife.look_at(jpeg))
        return InferenceResponse(model_name=self.name, outputs=[StringCodec.encode_output("detections", [found])])


class Row(MLModel):
    """An index: a row of a table."""

    async def load(self):
        self.plain = Plain()
        return True

    async def predict(self, payload):
        import numpy

        index = NumpyCodec.decode_input(payload.inputs[0]).tolist()
        row = numpy.array(self.plain.row(index), dtype="float32")
        return InferenceResponse(model_name=self.name, outputs=[NumpyCodec.encode_output("row", row)])


class Length(Row):
    """Bytes as base64: how many they are."""

    async def predict(self, payload):
        import numpy

        [data] = Base64Codec.decode_input(payload.inputs[0])
        count = numpy.array(self.plain.count(data))
        return InferenceResponse(model_name=self.name, outputs=[NumpyCodec.encode_output("length", count)])


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True, help="folder with detector.pt and embedder.pt")
    parser.add_argument("--port", required=True, type=int)
    parser.add_argument("--workers", required=True, type=int, help="processes that infer")
    parser.add_argument("folder", type=Path)
    args = parser.parse_args()
    settings = {
        "host": "127.0.0.1",
        "http_port": args.port,
        "grpc_port": free_port(),
        "metrics_port": free_port(),
        "metrics_dir": str(args.folder / ".metrics"),
        "environments_dir": str(args.folder / ".envs"),
        "parallel_workers": args.workers,
        "debug": False,
    }
    (args.folder / "settings.json").write_text(json.dumps(settings))
    for name, runtime in MODELS.items():
        folder = args.folder / name
        folder.mkdir()
        parameters = {"uri": str(Path(args.model).resolve())}
        model = {"name": name, "implementation": f"mlserver_models.{runtime}", "parameters": parameters}
        (folder / "model-settings.json").write_text(json.dumps(model))


if __name__ == "__main__":
    main()
