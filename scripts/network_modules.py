"""The modules of which export_networks.py builds the two networks; all are compiled to TorchScript.

How the arithmetic is arranged. Activations are N x H x W x C all the way. A 1 x 1 convolution is then one matrix
product, for which MKL is faster than a convolution primitive. The stream between the blocks carries one more channel
that is always 1, so the expanding product adds its bias by itself; the bias of a projection that is added to the
stream is not added at all but accounted for in the next product's bias (nothing non-linear lies between). What stays
a convolution runs as one oneDNN primitive with bias and relu6 fused and its weights reordered once, while loading.
"""

from typing import List, Optional, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def onednn_relu6(x: Tensor, weight: Tensor, bias: Tensor, stride: int, padding: List[int], groups: int) -> Tensor:
    """relu6(conv2d(x)) as one oneDNN primitive; `number` is TorchScript's own type, unknown to Python."""
    return torch.ops.mkldnn._convolution_pointwise(
        x, weight, bias, padding, [stride, stride], [1, 1], groups,
        "hardtanh", torch.jit.annotate(List[Optional[number]], [0.0, 6.0]), "")  # noqa: F821


class Convolution(nn.Module):
    """k x k convolution, bias and relu6 over N x H x W x C.

    Loading the file onto a CPU reorders the weights into oneDNN's layout for this machine (`__setstate__` is run by
    torch::jit::load); on another device `fused` is off and plain operators run on the weights as stored.
    """

    def __init__(self, weight: Tensor, bias: Tensor, stride: int, padding: List[int], size: List[int]):
        super().__init__()
        self.weight = weight.contiguous().clone()
        self.bias = bias.clone()
        self.stride: int = stride
        self.padding: List[int] = padding
        self.size: List[int] = size  # of the input: 1 x C x H x W
        self.groups: int = size[1] // weight.size(1)
        self.fused: bool = False
        self.packed = self.weight

    @torch.jit.export
    def __getstate__(self) -> Tuple[Tensor, Tensor, int, List[int], List[int], int, bool]:
        return self.weight, self.bias, self.stride, self.padding, self.size, self.groups, self.training

    @torch.jit.export
    def __setstate__(self, state: Tuple[Tensor, Tensor, int, List[int], List[int], int, bool]) -> None:
        self.weight, self.bias, self.stride, self.padding, self.size, self.groups, self.training = state
        self.packed = self.weight
        self.fused = self.weight.device.type == "cpu"
        if self.fused:
            stride = [self.stride, self.stride]
            self.packed = torch.ops.mkldnn._reorder_convolution_weight(
                self.weight, self.padding, stride, [1, 1], self.groups, self.size)

    def forward(self, x: Tensor) -> Tensor:
        x = x.permute(0, 3, 1, 2)
        if self.fused:
            y = onednn_relu6(x, self.packed, self.bias, self.stride, self.padding, self.groups)
        else:
            # conv2d, except that its last argument forbids cuDNN to round the pixels to TF32
            stride = [self.stride, self.stride]
            y = torch._convolution(x, self.weight, self.bias, stride, self.padding, [1, 1], False, [0, 0],
                                   self.groups, False, False, True, False).clamp_(0.0, 6.0)
        return y.permute(0, 2, 3, 1)


class Stem(nn.Module):
    """Pixels 0..255 to the first feature map. The normalisation is part of the weights; the border that the network
    pads with zeros is therefore padded with the pixel value that means zero."""

    def __init__(self, convolution: Convolution, size: int, zero: float):
        super().__init__()
        self.convolution = convolution
        self.size: int = size
        self.zero: float = zero

    def forward(self, pixels: Tensor) -> Tensor:
        side = self.size + 1
        x = torch.empty([pixels.size(0), side, side, 3], dtype=torch.float, device=pixels.device)
        x.narrow(1, 0, self.size).narrow(2, 0, self.size).copy_(pixels)
        x.narrow(1, self.size, 1).fill_(self.zero)
        x.narrow(2, self.size, 1).fill_(self.zero)
        return self.convolution(x)


class Expand(nn.Module):
    """1 x 1 convolution and relu6 of the stream; the last row of the weight is the bias, which meets the channel of ones."""

    def __init__(self, weight: Tensor, bias: Tensor):
        super().__init__()
        self.weight = torch.cat([weight, bias[None]])

    def forward(self, x: Tensor) -> Tensor:
        n, h, w, c = x.shape
        return torch.mm(x.view(-1, c), self.weight).clamp_(0.0, 6.0).view(n, h, w, -1)


class Project(nn.Module):
    """1 x 1 convolution that begins a new stream: its channels, then the channel of ones."""

    def __init__(self, weight: Tensor, bias: Tensor):
        super().__init__()
        self.weight = weight.clone()
        self.start = torch.cat([bias, torch.ones(1)])
        self.width: int = weight.size(1)

    def forward(self, x: Tensor) -> Tensor:
        n, h, w, c = x.shape
        stream = self.start.expand(n * h * w, -1).contiguous()
        stream.narrow(1, 0, self.width).addmm_(x.reshape(-1, c), self.weight)
        return stream.view(n, h, w, -1)


class Residual(nn.Module):
    """Inverted residual block; adds to the stream in place (nobody else holds the stream)."""

    def __init__(self, expand: Expand, depthwise: Convolution, weight: Tensor):
        super().__init__()
        self.expand = expand
        self.depthwise = depthwise
        self.weight = weight.clone()
        self.width: int = weight.size(1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.depthwise(self.expand(x))
        x.view(-1, self.width + 1).narrow(1, 0, self.width).addmm_(y.reshape(-1, y.size(3)), self.weight)
        return x


class Transition(nn.Module):
    """Inverted residual block without a residual: begins a new stream."""

    def __init__(self, expand: Expand, depthwise: Convolution, project: Project):
        super().__init__()
        self.expand = expand
        self.depthwise = depthwise
        self.project = project

    def forward(self, x: Tensor) -> Tensor:
        return self.project(self.depthwise(self.expand(x)))


class StripTransition(nn.Module):
    """The same for the widest feature map (stride 2, 3 x 3, even height, one row of padding below), some rows at a time."""

    def __init__(self, expand: Expand, depthwise: Convolution, project: Project, rows: int):
        super().__init__()
        self.expand = expand
        self.depthwise = depthwise
        self.project = project
        self.rows: int = rows

    def forward(self, x: Tensor) -> Tensor:
        if not self.depthwise.fused:
            return self.project(self.depthwise(F.pad(self.expand(x), [0, 0, 0, 0, 0, 1])))
        n, h, w, c = x.shape
        wide = self.expand.weight.size(1)
        stream = self.project.start.expand(n * h * w // 4, -1).contiguous()
        target = stream.narrow(1, 0, self.project.width).view(n, h * w // 4, -1)
        strip = torch.empty([1, 2 * self.rows + 1, w, wide], device=x.device)
        for i in range(n):
            source = x[i].view(-1, c)
            for top in range(0, h // 2, self.rows):
                count = min(self.rows, h // 2 - top)
                inputs = min(2 * count + 1, h - 2 * top)
                part = strip.narrow(1, 0, 2 * count + 1)
                expanded = part[0].view(-1, wide).narrow(0, 0, inputs * w)
                torch.mm(source.narrow(0, 2 * top * w, inputs * w), self.expand.weight, out=expanded)
                expanded.clamp_(0.0, 6.0)
                if inputs < 2 * count + 1:
                    part.narrow(1, inputs, 1).zero_()
                y = self.depthwise(part).reshape(-1, wide)
                target[i].narrow(0, top * (w // 2), count * (w // 2)).addmm_(y, self.project.weight)
        return stream.view(n, h // 2, w // 2, -1)


class Pointwise(nn.Module):
    """1 x 1 convolution of a feature map that has no channel of ones: rows of pixels x channels."""

    def __init__(self, weight: Tensor, bias: Tensor):
        super().__init__()
        self.weight = weight.clone()
        self.bias = bias.clone()

    def forward(self, x: Tensor) -> Tensor:
        return torch.addmm(self.bias, x.reshape(-1, x.size(3)), self.weight)


class Extra(nn.Module):
    """One of the detector's feature layers behind the backbone: squeeze, stride 2, widen."""

    def __init__(self, squeeze: Pointwise, depthwise: Convolution, widen: Pointwise):
        super().__init__()
        self.squeeze = squeeze
        self.depthwise = depthwise
        self.widen = widen

    def forward(self, x: Tensor) -> Tensor:
        n, h, w, c = x.shape
        y = self.depthwise(self.squeeze(x).clamp_(0.0, 6.0).view(n, h, w, -1))
        return self.widen(y).clamp_(0.0, 6.0).view(n, y.size(1), y.size(2), -1)


class Head(nn.Module):
    """Box offsets (N, A, 4) and class logits (N, A, 91) of one feature map."""

    def __init__(self, box: Tuple[Convolution, Pointwise], score: Tuple[Convolution, Pointwise]):
        super().__init__()
        self.box_depthwise, self.box = box
        self.score_depthwise, self.score = score

    def forward(self, x: Tensor) -> Tuple[Tensor, Tensor]:
        n = x.size(0)
        return self.box(self.box_depthwise(x)).view(n, -1, 4), self.score(self.score_depthwise(x)).view(n, -1, 91)


class Detector(nn.Module):
    """SSDLite-MobileNetV2."""

    def __init__(self, stem, first, begin, fine, tap, down, coarse, last, extras, heads, anchors: Tuple[Tensor, Tensor]):
        super().__init__()
        self.stem, self.first, self.begin = stem, first, begin
        self.fine = nn.ModuleList(fine)
        self.tap, self.down_depthwise, self.down = tap, down[0], down[1]
        self.coarse = nn.ModuleList(coarse)
        self.last = last
        self.extras = nn.ModuleList(extras)
        self.heads = nn.ModuleList(heads)
        self.centre = anchors[0].clone()
        self.extent = anchors[1].clone()
        self.half_extent = anchors[1] / 2

    def forward(self, pixels: Tensor) -> Tuple[Tensor, Tensor, Tensor]:
        x = self.begin(self.first(self.stem(pixels)))
        for block in self.fine:
            x = block(x)
        tap = self.tap(x)
        maps = [tap]
        x = self.down(self.down_depthwise(tap))
        for block in self.coarse:
            x = block(x)
        x = self.last(x)
        feature = x.mean([1, 2])
        maps.append(x)
        for extra in self.extras:
            x = extra(x)
            maps.append(x)
        offsets: List[Tensor] = []
        logits: List[Tensor] = []
        for i, head in enumerate(self.heads):
            offset, logit = head(maps[i])
            offsets.append(offset)
            logits.append(logit)
        offset = torch.cat(offsets, 1)
        centre = torch.addcmul(self.centre, offset.narrow(2, 0, 2), self.extent)
        half = offset.narrow(2, 2, 2).exp() * self.half_extent
        return torch.cat([centre - half, centre + half], 2), torch.cat(logits, 1).sigmoid_(), feature


class Embedder(nn.Module):
    """EfficientNet-Lite0."""

    def __init__(self, stem, first, begin, blocks, last, classify: Tuple[Tensor, Tensor]):
        super().__init__()
        self.stem, self.first, self.begin = stem, first, begin
        self.blocks = nn.ModuleList(blocks)
        self.last = last
        self.weight = classify[0].t().contiguous()
        self.bias = classify[1].clone()

    def forward(self, pixels: Tensor) -> Tuple[Tensor, Tensor]:
        x = self.begin(self.first(self.stem(pixels)))
        for block in self.blocks:
            x = block(x)
        embedding = self.last(x).mean([1, 2])
        return embedding, torch.addmm(self.bias, embedding, self.weight)
