"""Rewrites the two pretrained networks for fast inference: same answers, another arrangement of the arithmetic.
network_modules.py says how.

usage: export_networks.py [--source DIR] [--out DIR]                    writes OUT/detector.pt and OUT/embedder.pt
       export_networks.py [--source DIR] [--out DIR] --check PHOTOS     compares them with the originals (exit code 1)
       export_networks.py [--source DIR] [--out DIR] --bench            times them against the originals

SOURCE holds ssdlite_mobilenet_v2_coco.pt and efficientnet_lite0_imagenet.pt (TorchScript traces). Needs torch 2.11 and,
for --check, Pillow. The same input and torch give the same bytes. docs/networks.md says what was tried and measured.

Interface of the files (both on CPU and CUDA, any N >= 1; load them straight onto the device they run on):
  detector.pt  forward(uint8 N x 300 x 300 x 3, RGB) -> boxes (N, 1917, 4: ymin, xmin, ymax, xmax in 0..1),
               scores (N, 1917, 91: sigmoid, 0 is background), feature (N, 1280)
  embedder.pt  forward(uint8 N x 224 x 224 x 3, RGB) -> embedding (N, 1280), logits (N, 1000)
"""

import argparse
import io
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import List, Optional, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from network_modules import (Convolution, Detector, Embedder, Expand, Extra, Head, Pointwise, Project, Residual, Stem,
                             StripTransition, Transition)

SOURCES = {"detector": "ssdlite_mobilenet_v2_coco.pt", "embedder": "efficientnet_lite0_imagenet.pt"}
SIZES = {"detector": 300, "embedder": 224}
MAX_BYTES = 40_000_000
STRIP_ROWS = 10  # output rows of the first block computed at a time: the wide activations stay in the L2 cache


# --- reading the originals -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Layer:
    """One convolution of an original with everything affine after it folded in."""

    name: str
    source: str
    weight: Tensor
    bias: Tensor
    stride: int
    padding: Tuple[int, int]  # before, after (the same in both directions)
    groups: int
    relu6: bool
    residual: Optional[str]

    def matrix(self) -> Tensor:
        """A 1 x 1 convolution's weight, inputs x outputs."""
        return self.weight.flatten(1).t().contiguous()


def read_layers(network) -> Tuple[List[Layer], dict]:
    """The convolutions of a frozen graph in order of execution, and the constants of its `linear`, if any."""
    graph = torch.jit.freeze(network.eval()).graph
    layers, pads, alias, linear = {}, {}, {}, {}

    def constant(value):
        node = value.node()
        if node.kind() == "prim::ListConstruct":
            return [v.toIValue() for v in node.inputs()]
        return value.toIValue() if node.kind() == "prim::Constant" else None

    def name(value):
        return alias.get(value.debugName(), value.debugName())

    for node in graph.nodes():
        args = list(node.inputs())
        if node.outputsSize() != 1:
            continue
        out = node.output().debugName()
        if node.kind() == "aten::pad":
            pads[out] = (name(args[0]), tuple(constant(args[1])[:2]))
        elif node.kind() == "aten::_convolution":
            source, padding = pads.get(args[0].debugName(), (name(args[0]), (0, 0)))
            weight, bias = constant(args[1]).detach(), constant(args[2])
            bias = None if bias is None else bias.detach()
            layers[out] = Layer(out, source, weight, bias, constant(args[3])[0], padding, constant(args[8]), False, None)
        elif node.kind() in ("aten::relu6", "aten::hardtanh"):
            layers[name(args[0])] = replace(layers[name(args[0])], relu6=True)
            alias[out] = name(args[0])
        elif node.kind() == "aten::add" and name(args[0]) in layers:
            layer, other = layers[name(args[0])], constant(args[1])
            change = {"residual": name(args[1])} if other is None else {"bias": other.detach().flatten()}
            layers[layer.name] = replace(layer, **change)
            alias[out] = layer.name
        elif node.kind() == "aten::linear":
            linear = {"weight": constant(args[1]).detach(), "bias": constant(args[2]).detach()}
    assert all(layer.bias is not None for layer in layers.values())
    return list(layers.values()), linear


# --- building the new ones -------------------------------------------------------------------------------------------


def depthwise(layer: Layer, size: int) -> Convolution:
    """Padding before and after may differ by one; oneDNN's operator pads alike, so the kernel gets a row and a column
    of zeros in front instead."""
    before, after = layer.padding
    weight = F.pad(layer.weight, (after - before, 0, after - before, 0))
    return Convolution(weight, layer.bias, layer.stride, [after, after], [1, layer.groups, size, size])


def make_stem(layer: Layer, size: int, mean: float, scale: float) -> Stem:
    assert layer.padding == (0, 1) and layer.stride == 2
    weight = layer.weight.double() / scale
    bias = layer.bias.double() - (weight * mean).sum((1, 2, 3))
    side = size + 1
    return Stem(Convolution(weight.float(), bias.float(), 2, [0, 0], [1, 3, side, side]), size, mean)


def make_expand(layer: Layer, unadded: Tensor) -> Expand:
    """`unadded` is the sum of the biases that the stream should have had added so far."""
    weight = layer.matrix()
    return Expand(weight, (layer.bias.double() + unadded @ weight.double()).float())


def make_blocks(layers: List[Layer], unadded: Tensor, size: int):
    """Inverted residual blocks from their three layers each; returns them with the new `unadded` and size."""
    blocks = []
    for expand, middle, project in zip(*[iter(layers)] * 3):
        assert expand.groups == project.groups == 1 and middle.groups > 1 and middle.relu6 and not project.relu6
        wide = make_expand(expand, unadded)
        if project.residual:
            blocks.append(Residual(wide, depthwise(middle, size), project.matrix()))
            unadded = unadded + project.bias.double()
            continue
        narrow = Project(project.matrix(), project.bias)
        if size > 100 and middle.padding == (0, 1) and middle.stride == 2:
            weight = F.pad(middle.weight, (1, 0))
            rows = [1, middle.groups, 2 * STRIP_ROWS + 1, size]
            strip = Convolution(weight, middle.bias, 2, [0, 1], rows)
            blocks.append(StripTransition(wide, strip, narrow, STRIP_ROWS))
        else:
            blocks.append(Transition(wide, depthwise(middle, size), narrow))
        unadded = torch.zeros_like(project.bias, dtype=torch.double)
        size = -(-size // middle.stride)
    return blocks, unadded, size


def make_embedder(network) -> Embedder:
    layers, linear = read_layers(network)
    stem, first, begin = layers[:3]
    blocks, unadded, _ = make_blocks(layers[3:-1], torch.zeros(begin.bias.shape, dtype=torch.double), 112)
    return Embedder(make_stem(stem, 224, 127.0, 128.0), depthwise(first, 112), Project(begin.matrix(), begin.bias),
                    blocks, make_expand(layers[-1], unadded), (linear["weight"], linear["bias"]))


def make_detector(network) -> Detector:
    layers, _ = read_layers(network)
    by_name = {layer.name: layer for layer in layers}
    used = {layer.source for layer in layers} | {layer.residual for layer in layers}
    ends = [layer for layer in layers if layer.name not in used]  # six box heads, then six class heads
    heads = {layer.name for layer in ends} | {layer.source for layer in ends}
    layers = [layer for layer in layers if layer.name not in heads]
    stem, first, begin = layers[:3]
    blocks, last, extras = layers[3:-13], layers[-13], layers[-12:]
    # The first map of the heads is the expanded one in the last block that halves the size: 19 x 19.
    cut = max(i for i in range(0, len(blocks), 3) if blocks[i + 1].stride == 2)
    tap, middle, project = blocks[cut:cut + 3]
    fine, unadded, size = make_blocks(blocks[:cut], torch.zeros(begin.bias.shape, dtype=torch.double), 150)
    tap_module = make_expand(tap, unadded)
    down = depthwise(middle, size), Project(project.matrix(), project.bias)
    coarse, unadded, _ = make_blocks(blocks[cut + 3:], torch.zeros(project.bias.shape, dtype=torch.double), 10)
    sizes = [19, 10, 5, 3, 2, 1]
    extra_modules = [
        Extra(Pointwise(a.matrix(), a.bias), depthwise(b, sizes[i + 1]), Pointwise(c.matrix(), c.bias))
        for i, (a, b, c) in enumerate(zip(*[iter(extras)] * 3))]
    head_modules = []
    for i in range(6):
        box, score = ends[i], ends[i + 6]
        # The decoder divides offsets by 10 and sizes by 5: done in the weights.
        scale = torch.tensor([10.0, 10.0, 5.0, 5.0]).repeat(len(box.bias) // 4)
        head_modules.append(Head(
            (depthwise(by_name[box.source], sizes[i]), Pointwise(box.matrix() / scale, box.bias / scale)),
            (depthwise(by_name[score.source], sizes[i]), Pointwise(score.matrix(), score.bias))))
    return Detector(make_stem(stem, 300, 127.5, 127.5), depthwise(first, 150), Project(begin.matrix(), begin.bias),
                    fine, tap_module, down, coarse, make_expand(last, unadded), extra_modules, head_modules,
                    (network.ac.detach(), network.ahw.detach()))


def save(module: nn.Module, path: Path) -> None:
    """Without the debug records: they hold paths of the machine that ran this, and nothing reads them."""
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.script(module.eval()), buffer)
    reader = torch._C.PyTorchFileReader(io.BytesIO(buffer.getvalue()))
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        whole = Path(folder) / path.name
        writer = torch._C.PyTorchFileWriter(str(whole))
        for name in reader.get_all_records():
            if name.endswith(".debug_pkl") or name in ("version", "byteorder", ".data/serialization_id"):
                continue
            data = reader.get_record(name)
            writer.write_record(name, data, len(data))
        writer.write_end_of_file()
        whole.replace(path)


def load_original(source: Path, name: str):
    return torch.jit.load(source / SOURCES[name]).eval()


@torch.no_grad()
def export(source: Path, out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    for name, make in (("detector", make_detector), ("embedder", make_embedder)):
        save(make(load_original(source, name)), out / f"{name}.pt")
    total = sum((out / f"{name}.pt").stat().st_size for name in SOURCES)
    print(f"wrote detector.pt and embedder.pt to {out}: {total / 1e6:.1f} MB")
    assert total <= MAX_BYTES, "the two files are too large to be committed"


# --- checking and timing ---------------------------------------------------------------------------------------------


def normalise(name: str, pixels: Tensor) -> Tensor:
    """What the originals want: N x 3 x H x W."""
    x = pixels.permute(0, 3, 1, 2).float().contiguous()
    return x / 127.5 - 1 if name == "detector" else (x - 127) / 128


def photographs(folder: Path, size: int) -> Tensor:
    from PIL import Image

    files = sorted(p for p in folder.iterdir() if p.suffix.lower() in (".jpg", ".jpeg", ".png"))
    pictures = [Image.open(p).convert("RGB").resize((size, size), Image.BILINEAR).tobytes() for p in files]
    return torch.stack([torch.frombuffer(bytearray(p), dtype=torch.uint8).view(size, size, 3) for p in pictures])


def differences(name: str, ours, theirs) -> dict:
    if name == "detector":
        pairs = {"boxes": (ours[0], theirs[0]), "scores": (ours[1], theirs[1])}
        relative = {"feature": (ours[2], theirs[2])}
    else:
        pairs = {"probabilities": (ours[1].softmax(1), theirs[1].softmax(1))}
        relative = {"embedding": (ours[0], theirs[0]), "logits": (ours[1], theirs[1])}
    result = {key: (a - b).abs().max().item() for key, (a, b) in pairs.items()}
    result |= {f"{key} (relative)": ((a - b).norm(dim=1) / b.norm(dim=1)).max().item() for key, (a, b) in relative.items()}
    return result


def plain(network):
    """Switches a loaded network to the branch that CUDA takes."""
    for module in network.modules():
        if hasattr(module, "fused"):
            module.fused = False
    return network


@torch.inference_mode()
def check(source: Path, out: Path, photos: Path) -> bool:
    good = True
    for name, size in SIZES.items():
        pixels = photographs(photos, size)
        original = load_original(source, name)
        theirs = [torch.cat(part) for part in zip(*(original(normalise(name, p[None])) for p in pixels))]
        ours = torch.jit.load(out / f"{name}.pt")
        single = [torch.cat(part) for part in zip(*(ours(p[None]) for p in pixels))]
        fours = [torch.cat(part) for part in zip(*(ours(p) for p in pixels.split(4)))]
        branch = [torch.cat(part) for part in zip(*(plain(torch.jit.load(out / f"{name}.pt"))(p) for p in pixels.split(5)))]
        for title, a, b in (("against the original", single, theirs), ("batches of four against one", fours, single),
                            ("the CUDA branch, run on the CPU", branch, single)):
            found = differences(name, a, b)
            fine = all(value <= 1e-5 for value in found.values())
            good &= fine
            print(f"{name}, {len(pixels)} photographs, {title}: "
                  + ", ".join(f"{key} {value:.1e}" for key, value in found.items()) + ("" if fine else "  TOO LARGE"))
    return good


def best_times(calls: dict, repeats: int) -> dict:
    """Least milliseconds of each call, the calls taking turns."""
    for call in calls.values():
        for _ in range(5):
            call()
    best = dict.fromkeys(calls, float("inf"))
    for _ in range(repeats):
        for key, call in calls.items():
            start = time.perf_counter()
            call()
            best[key] = min(best[key], (time.perf_counter() - start) * 1e3)
    return best


def together(make, workers: int, seconds: float = 3.0) -> float:
    """Calls a second of `workers` threads that each run their own network at once (the interpreter lock is free in forward)."""
    counts = [0] * workers
    calls = [make() for _ in range(workers)]

    def work(i: int) -> None:
        torch.set_num_threads(1)
        with torch.inference_mode():
            for _ in range(5):
                calls[i]()
            barrier.wait()
            end = time.perf_counter() + seconds
            while time.perf_counter() < end:
                calls[i]()
                counts[i] += 1

    barrier = threading.Barrier(workers)
    threads = [threading.Thread(target=work, args=(i,)) for i in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / seconds


@torch.inference_mode()
def bench(source: Path, out: Path, repeats: int) -> None:
    torch.manual_seed(0)
    for name, size in SIZES.items():
        def variants(batch):
            pixels = torch.randint(0, 256, (batch, size, size, 3), dtype=torch.uint8)
            x = normalise(name, pixels)
            original, frozen = load_original(source, name), torch.jit.freeze(load_original(source, name))
            ours = torch.jit.load(out / f"{name}.pt")
            return {"original": lambda: original(x), "frozen": lambda: frozen(x), "ours": lambda: ours(pixels)}

        for threads in (1, 2):
            torch.set_num_threads(threads)
            for batch in (1, 2, 4, 8):
                times = best_times(variants(batch), repeats)
                print(f"{name}, {threads} thread(s), batch {batch}: " + ", ".join(
                    f"{key} {value / batch:.2f} ms ({times['original'] / value:.2f} x)" for key, value in times.items()))
        torch.set_num_threads(1)
        rounds = [{key: together(lambda: variants(1)[key], 2) for key in ("original", "frozen", "ours")} for _ in range(3)]
        rates = {key: max(r[key] for r in rounds) for key in rounds[0]}
        print(f"{name}, two workers of one thread, batch 1: " + ", ".join(
            f"{key} {value:.1f}/s ({value / rates['original']:.2f} x)" for key, value in rates.items()), flush=True)


def main() -> int:
    here = Path(__file__).resolve().parent
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--source", type=Path, default=here.parent.parent / "shared" / "models", help="folder of the originals")
    parser.add_argument("--out", type=Path, default=here.parent / "detector" / "model" / "wildlife", help="folder to write")
    parser.add_argument("--check", type=Path, metavar="PHOTOS", help="compare with the originals on a folder of photographs")
    parser.add_argument("--bench", action="store_true", help="time against the originals")
    parser.add_argument("--repeats", type=int, default=100, help="calls of each variant when timing")
    args = parser.parse_args()
    if args.check:
        return 0 if check(args.source, args.out, args.check) else 1
    if args.bench:
        bench(args.source, args.out, args.repeats)
        return 0
    export(args.source, args.out)
    return 0


if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.exit(main())
