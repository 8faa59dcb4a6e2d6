"""LitServe with the models of serving_models.py: a peer of the section `serving` of `make bench`.

usage: litserve_server.py --model DIR --port PORT --workers COUNT
"""

import argparse

import litserve as ls
from serving_models import Plain, Wildlife, from_base64


class Detections(ls.LitAPI):
    """`{"image": base64}`: boxes and names."""

    def __init__(self, folder):
        super().__init__(api_path="/detections")
        self.folder = folder

    def setup(self, device):
        self.wildlife = Wildlife(self.folder)

    def decode_request(self, request):
        return from_base64(request["image"])

    def predict(self, jpeg):
        return self.wildlife.look_at(jpeg)

    def encode_response(self, found):
        return {"detections": found}


class Row(ls.LitAPI):
    """`{"index": [2]}`: a row of a table."""

    def setup(self, device):
        self.plain = Plain()

    def decode_request(self, request):
        return request["index"]

    def predict(self, index):
        return self.plain.row(index)

    def encode_response(self, row):
        return {"row": row}


class Length(Row):
    """`{"payload": base64}`: how long it is."""

    def decode_request(self, request):
        return from_base64(request["payload"])

    def predict(self, payload):
        return self.plain.count(payload)

    def encode_response(self, count):
        return {"length": count}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True, help="folder with detector.pt and embedder.pt")
    parser.add_argument("--port", required=True, type=int)
    parser.add_argument("--workers", required=True, type=int, help="processes that infer")
    args = parser.parse_args()
    server = ls.LitServer(
        [Detections(args.model), Row(api_path="/row"), Length(api_path="/length")],
        accelerator="cpu",
        workers_per_device=args.workers,
    )
    server.run(host="127.0.0.1", port=args.port, generate_client_file=False, log_level="error")


if __name__ == "__main__":
    main()
