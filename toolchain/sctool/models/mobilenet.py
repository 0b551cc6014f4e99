"""MobileNetV2 (Sandler et al., 2018) with strides for the size of the images."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from sctool.models.shapes import image_input, scaled

_STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
"""(expansion, channels, blocks, stride of the first block), as in the paper."""


class MobileNetV2(nn.Module):
    """[B, D, H, W] -> logits [B, C]: conv 3x3, seven stages of inverted residuals, conv 1x1, global mean, Linear.

    The paper's strides from sides of 128 on; under 128 the second stage has stride 1, under 64 the stem too. `width`
    multiplies the channels (to multiples of 8; the last 1280 only grow); sides of at least 8.
    """

    def __init__(self, input_shape: Sequence[int], classes: int, width: float = 1.0) -> None:
        super().__init__()
        depth, side = image_input(input_shape, needed=8)
        before = _by_eight(32, width)
        last = _by_eight(1280, max(1.0, width))
        self.stem = _convolution(depth, before, 3, stride=1 if side < 64 else 2)
        blocks: list[nn.Module] = []
        for number, (expansion, channels, repeats, stride) in enumerate(_STAGES):
            after = _by_eight(channels, width)
            first = 1 if number == 1 and side < 128 else stride
            for repeat in range(repeats):
                blocks.append(_InvertedResidual(before, after, expansion, first if repeat == 0 else 1))
                before = after
        self.blocks = nn.Sequential(*blocks)
        self.last = _convolution(before, last, 1)
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(last, classes))

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.last(self.blocks(self.stem(x))))
        return logits


class _InvertedResidual(nn.Module):
    """[B, before, H, W] -> [B, after, H / stride, W / stride]: expand 1x1, depthwise 3x3, project 1x1 (linear).

    The input is added where the shapes agree.
    """

    def __init__(self, before: int, after: int, expansion: int, stride: int) -> None:
        super().__init__()
        inner = before * expansion
        expand = [_convolution(before, inner, 1)] if expansion > 1 else []
        self.body = nn.Sequential(
            *expand,
            _convolution(inner, inner, 3, stride=stride, groups=inner),
            nn.Conv2d(inner, after, 1, bias=False),
            nn.BatchNorm2d(after),
        )
        self.residual = stride == 1 and before == after

    def forward(self, x: Tensor) -> Tensor:
        answer: Tensor = self.body(x)
        return x + answer if self.residual else answer


def _convolution(before: int, after: int, kernel: int, *, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """Conv + BatchNorm + ReLU6; stride 1 keeps the size."""
    return nn.Sequential(
        nn.Conv2d(before, after, kernel, stride=stride, padding=kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(after),
        nn.ReLU6(),
    )


def _by_eight(channels: int, width: float) -> int:
    """channels * width as a multiple of 8, never under nine tenths of it."""
    wanted = scaled(channels, width)
    rounded = max(8, (wanted + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * wanted else rounded
