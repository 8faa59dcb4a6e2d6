"""Makes the small TorchScript models of the tests. They have no weights, or fixed ones: the same files every time but for
the archive's own ids.

usage: tiny_models.py FOLDER      (torch 2.11)
"""
import json
import sys
from pathlib import Path

import torch
from torch import Tensor


class Sums(torch.nn.Module):
    """Several inputs and outputs of several datatypes, row by row."""

    def forward(self, a: Tensor, b: Tensor):
        sum = a + b
        return sum, sum.to(torch.float64).sum(1), sum > 0, sum.argmax(1)


class Halves(torch.nn.Module):
    """Floats of 16 bits."""

    def forward(self, x: Tensor):
        return x * 0.5, (x * 0.5).to(torch.bfloat16)


class Kinds(torch.nn.Module):
    """Gives back what it was given, of each kind."""

    def forward(self, u8: Tensor, i8: Tensor, i16: Tensor, i32: Tensor, i64: Tensor, f64: Tensor, flags: Tensor, bf16: Tensor):
        return u8, i8, i16, i32, i64, f64, flags, bf16


class Lookup(torch.nn.Module):
    """Throws where an index is out of range."""

    def __init__(self):
        super().__init__()
        self.register_buffer("table", torch.arange(12, dtype=torch.float32).reshape(4, 3))

    def forward(self, index: Tensor):
        return self.table[index]


class Length(torch.nn.Module):
    """Does next to nothing with many bytes."""

    def forward(self, payload: Tensor):
        return torch.tensor([payload.numel()])


class Slow(torch.nn.Module):
    """Multiplies matrices as often as it is told to."""

    def forward(self, times: Tensor):
        x = torch.eye(256)
        for _ in range(int(times[0, 0])):
            x = x @ x
        return x[:1, :1] + torch.zeros([times.size(0), 1])


def tensor(name, datatype, *shape):
    return {"name": name, "datatype": datatype, "shape": list(shape)}


MODELS = {
    "halves": (Halves(), [tensor("x", "FP16", -1, 2)], [tensor("half", "FP16", -1, 2), tensor("brain", "BF16", -1, 2)]),
    "kinds": (
        Kinds(),
        kinds := [
            tensor("u8", "UINT8", -1, -1),
            tensor("i8", "INT8", -1, -1),
            tensor("i16", "INT16", -1, -1),
            tensor("i32", "INT32", -1, -1),
            tensor("i64", "INT64", -1, -1),
            tensor("f64", "FP64", -1, -1),
            tensor("flags", "BOOL", -1, -1),
            tensor("bf16", "BF16", -1, -1),
        ],
        kinds,
    ),
    "lookup": (Lookup(), [tensor("index", "INT64", -1)], [tensor("row", "FP32", -1, 3)]),
    "length": (Length(), [tensor("payload", "UINT8", -1)], [tensor("length", "INT64", 1)]),
    "slow": (Slow(), [tensor("times", "INT64", -1, 1)], [tensor("corner", "FP32", -1, 1)]),
}


def spec(name, dtype, *shape):
    return {"type": "tensor", "name": name, "tensor-spec": {"dtype": dtype, "shape": list(shape)}}


def main(folder):
    for name, (module, inputs, outputs) in MODELS.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        torch.jit.script(module).save(str(folder / name / "model.pt"))
        lines = [json.dumps({"inputs": inputs})[1:-1], json.dumps({"outputs": outputs})[1:-1]]
        (folder / name / "signature.yaml").write_text("{" + ",\n ".join(lines) + "}\n")
    # As MLflow saves a scripted model.
    (folder / "sums" / "data").mkdir(parents=True, exist_ok=True)
    torch.jit.script(Sums()).save(str(folder / "sums" / "data" / "model.pth"))
    inputs = [spec("a", "float32", -1, 3), spec("b", "float32", -1, 3)]
    outputs = [spec("sum", "float32", -1, 3), spec("total", "float64", -1), spec("positive", "bool", -1, 3), spec("largest", "int64", -1)]
    description = {
        "flavors": {"pytorch": {"model_data": "data", "pytorch_version": "2.11.0"}},
        "signature": {"inputs": json.dumps(inputs), "outputs": json.dumps(outputs), "params": None},
    }
    (folder / "sums" / "MLmodel").write_text(json.dumps(description, indent=1) + "\n")


main(Path(sys.argv[1]))
