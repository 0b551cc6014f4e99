"""VGG-16 with BatchNorm for images of CIFAR's size: thirteen convolutions and one Linear."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from sctool.models.shapes import image_input, scaled

_BLOCKS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))


class Vgg16(nn.Module):
    """[B, D, H, W] -> logits [B, C]: five blocks of (conv 3x3 + BatchNorm + ReLU) and max-pool 2, global mean, Linear.

    A pool is left out where a side is 1 already. `width` multiplies the channels; sides of at least 16.
    """

    def __init__(self, input_shape: Sequence[int], classes: int, width: float = 1.0) -> None:
        super().__init__()
        before, side = image_input(input_shape, needed=16)
        layers: list[nn.Module] = []
        for block in _BLOCKS:
            for after in (scaled(channels, width) for channels in block):
                layers += [nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU()]
                before = after
            if side >= 2:
                layers.append(nn.MaxPool2d(2))
                side //= 2
        self.features = nn.Sequential(*layers)
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, classes))

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.features(x))
        return logits
