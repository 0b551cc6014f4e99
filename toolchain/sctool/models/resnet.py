"""ResNet-18 (He et al., 2016) with a stem for the size of the images."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from sctool.models.shapes import image_input, scaled

STEMS = {"cifar": 1, "imagenet64": 2, "imagenet": 4}
"""Stem -> by how much it shrinks the sides."""


class ResNet18(nn.Module):
    """[B, D, H, W] -> logits [B, C]: a stem, four stages of two residual blocks, global mean, Linear.

    `stem`: "cifar" (conv 3x3), "imagenet64" (conv 3x3 stride 2, for 64 x 64) or "imagenet" (conv 7x7 stride 2 and
    max-pool 3x3 stride 2); sides of at least 8, 16 or 32. `width` multiplies the channels.
    """

    def __init__(self, input_shape: Sequence[int], classes: int, stem: str = "cifar", width: float = 1.0) -> None:
        super().__init__()
        if stem not in STEMS:
            raise ValueError(f"found stem = {stem!r}; needed one of {', '.join(STEMS)}")
        depth, _ = image_input(input_shape, needed=8 * STEMS[stem])
        before = scaled(64, width)
        self.stem = _stem(stem, depth, before)
        blocks: list[nn.Module] = []
        for channels, stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
            after = scaled(channels, width)
            blocks += [_Block(before, after, stride), _Block(after, after, 1)]
            before = after
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, classes))

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.blocks(self.stem(x)))
        return logits


class _Block(nn.Module):
    """[B, before, H, W] -> [B, after, H / stride, W / stride]: two convs 3x3 beside a shortcut, then ReLU."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(before, after, 3, stride=stride, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU(),
            nn.Conv2d(after, after, 3, padding=1, bias=False), nn.BatchNorm2d(after),
        )  # fmt: skip
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or before != after:
            self.shortcut = nn.Sequential(nn.Conv2d(before, after, 1, stride=stride, bias=False), nn.BatchNorm2d(after))
        self.activation = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        answer: Tensor = self.activation(self.body(x) + self.shortcut(x))
        return answer


def _stem(stem: str, depth: int, channels: int) -> nn.Sequential:
    rest: list[nn.Module] = [nn.BatchNorm2d(channels), nn.ReLU()]
    if stem == "imagenet":
        convolution = nn.Conv2d(depth, channels, 7, stride=2, padding=3, bias=False)
        rest.append(nn.MaxPool2d(3, stride=2, padding=1))
    else:
        convolution = nn.Conv2d(depth, channels, 3, stride=STEMS[stem], padding=1, bias=False)
    return nn.Sequential(convolution, *rest)
