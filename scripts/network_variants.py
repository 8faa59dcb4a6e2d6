"""Times the ways of making the original networks faster that libtorch offers, beside the exported ones, and measures how
far each one's answers are from the originals'. docs/networks.md holds the table.

usage: network_variants.py [--source DIR] [--out DIR] PHOTOS
Needs torch 2.11 and Pillow. Leave the machine alone while it runs.
"""

import argparse
import sys
import warnings
from pathlib import Path

import torch

from export_networks import SIZES, best_times, differences, load_original, normalise, photographs

warnings.filterwarnings("ignore")


def quantised(source: Path, name: str, pixels):
    """int8 weights and activations, calibrated on the photographs (static, per channel)."""
    from torch.ao.quantization import get_default_qconfig
    from torch.ao.quantization.quantize_jit import quantize_jit

    torch.backends.quantized.engine = "x86"

    def calibrate(model, data):
        for one in data:
            model(one)

    data = [normalise(name, p[None]) for p in pixels]
    return quantize_jit(load_original(source, name), {"": get_default_qconfig("x86")}, calibrate, [data])


def variants(source: Path, out: Path, name: str, pixels) -> dict:
    """Each way as a function of N x side x side x 3 bytes; an exception where libtorch refuses."""
    original = load_original(source, name)
    frozen = torch.jit.freeze(load_original(source, name))
    channels_last = torch.jit.freeze(load_original(source, name).to(memory_format=torch.channels_last))
    prepared = torch.jit.optimize_for_inference(load_original(source, name))
    ours = torch.jit.load(out / f"{name}.pt")
    last = lambda p: normalise(name, p).contiguous(memory_format=torch.channels_last)
    ways = {
        "original": lambda p: original(normalise(name, p)),
        "frozen, batch norms folded": lambda p: frozen(normalise(name, p)),
        "frozen, channels last": lambda p: channels_last(last(p)),
        "optimize_for_inference (oneDNN)": lambda p: prepared(normalise(name, p)),
    }
    torch.jit.enable_onednn_fusion(True)
    fused = torch.jit.freeze(torch.jit.trace(load_original(source, name), normalise(name, pixels[:1])))
    for _ in range(3):
        fused(normalise(name, pixels[:1]))
    torch.jit.enable_onednn_fusion(False)
    ways["frozen, oneDNN graph fusion"] = lambda p: fused(normalise(name, p))
    try:
        int8 = quantised(source, name, pixels)
        int8(normalise(name, pixels[:1]))
        ways["int8, static"] = lambda p: int8(normalise(name, p))
    except Exception as error:  # libtorch raises many kinds
        print(f"{name}: int8 cannot be made of the trace: {str(error).strip().splitlines()[0]}", file=sys.stderr)
    half = torch.jit.freeze(load_original(source, name).to(torch.bfloat16))
    ways["bfloat16"] = lambda p: [part.float() for part in half(normalise(name, p).bfloat16())]
    ways["exported (ours)"] = lambda p: ours(p)
    return ways


@torch.inference_mode()
def main() -> None:
    root = Path(__file__).resolve().parent.parent
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--source", type=Path, default=root / "../shared/models")
    parser.add_argument("--out", type=Path, default=root / "detector/model/wildlife")
    parser.add_argument("--repeats", type=int, default=30)
    args = parser.parse_args()
    print("| network | way | 1 image, 1 thread, ms | 1 image, 2 threads, ms | 8 images, 2 threads, ms each | largest difference |")
    print("|---|---|---|---|---|---|")
    for name, size in SIZES.items():
        pixels = photographs(args.photos, size)
        ways = variants(args.source, args.out, name, pixels)
        columns = []
        for threads, batch in ((1, 1), (2, 1), (2, 8)):
            torch.set_num_threads(threads)
            some = pixels[:batch]
            repeats = args.repeats if batch == 1 else max(args.repeats // 4, 3)
            times = best_times({way: (lambda f=f: f(some)) for way, f in ways.items()}, repeats)
            columns.append({way: value / batch for way, value in times.items()})
        theirs = [torch.cat(part) for part in zip(*(ways["original"](p[None]) for p in pixels))]
        for way, f in ways.items():
            answers = [torch.cat(part) for part in zip(*(f(p[None]) for p in pixels))]
            found = {key: value for key, value in differences(name, answers, theirs).items() if "relative" not in key}
            worst = ", ".join(f"{key} {value:.0e}" for key, value in found.items())
            print(f"| {name} | {way} | " + " | ".join(f"{column[way]:.1f}" for column in columns) + f" | {worst} |", flush=True)


if __name__ == "__main__":
    main()
