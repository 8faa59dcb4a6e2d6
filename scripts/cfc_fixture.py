"""Makes detector/tests/fixtures/cfc.json: what the reference CfC cell (PyPI ncps, Apache-2.0) computes.

usage: python scripts/cfc_fixture.py        (needs ncps 1.0.1 and torch 2.11)

One sequence at a time (B = 1): with more, the reference broadcasts its time spans along the wrong dimension.
"""

import json
from pathlib import Path

import torch
from ncps.torch import CfC

CASES = [
    {"name": "default backbone, gaps in seconds", "inputs": 4, "units": 6, "backbone": 128, "steps": 7, "gaps": True},
    {"name": "as many units as steps", "inputs": 5, "units": 8, "backbone": 16, "steps": 8, "gaps": True},
    {"name": "no gaps given", "inputs": 3, "units": 5, "backbone": 12, "steps": 4, "gaps": False},
]


def main():
    generator = torch.Generator().manual_seed(7)
    random = lambda *shape: torch.randn(*shape, generator=generator)
    cases = []
    for case in CASES:
        torch.manual_seed(len(cases))
        network = CfC(case["inputs"], case["units"], mode="default", backbone_units=case["backbone"]).eval()
        for parameter in network.parameters():
            parameter.data = (random(*parameter.shape) * 0.4).round(decimals=4)
        inputs = random(1, case["steps"], case["inputs"]).round(decimals=4)
        start = random(1, case["units"]).round(decimals=4)
        # Log-uniform between 0.05 and 60 seconds, as bursts have them.
        gaps = (0.05 * 1200 ** torch.rand(1, case["steps"], generator=generator)).round(decimals=3)
        with torch.inference_mode():
            outputs, _ = network(inputs, start, timespans=gaps if case["gaps"] else None)
        cell = network.rnn_cell
        layers = {"backbone": cell.backbone[0], "ff1": cell.ff1, "ff2": cell.ff2, "time_a": cell.time_a, "time_b": cell.time_b}
        weights = {name: {"weight": numbers(layer.weight), "bias": numbers(layer.bias)} for name, layer in layers.items()}
        cases.append({**case, "gaps": numbers(gaps[0]) if case["gaps"] else None, "weights": weights, "start": numbers(start[0]),
                      "sequence": numbers(inputs[0]), "outputs": numbers(outputs[0])})
    path = Path(__file__).resolve().parent.parent / "detector/tests/fixtures/cfc.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"made_by": "scripts/cfc_fixture.py with ncps 1.0.1", "cases": cases}) + "\n")


def numbers(tensor):
    """Nested lists with the digits that a 32-bit float holds."""
    if tensor.dim() > 1:
        return [numbers(row) for row in tensor]
    return [float(f"{value:.8g}") for value in tensor.tolist()]


if __name__ == "__main__":
    main()
