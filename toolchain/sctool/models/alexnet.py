"""AlexNet for images of CIFAR's size: five convolutions and one Linear."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from sctool.models.shapes import image_input, scaled


class AlexNet(nn.Module):
    """[B, D, H, W] -> logits [B, C]: conv 11x11 stride 4, conv 5x5, three of 3x3, global mean, Linear.

    ReLU after each convolution; max-pool 2 after the first, second and fifth, left out where a side is 1 already.
    `width` multiplies the channels; sides of at least 16. Without BatchNorm, torch's own initial weights would shrink
    the signal a hundredfold on the way; He's keep it.
    """

    def __init__(self, input_shape: Sequence[int], classes: int, width: float = 1.0) -> None:
        super().__init__()
        depth, side = image_input(input_shape, needed=16)
        first, second, third, fourth, fifth = (scaled(channels, width) for channels in (64, 192, 384, 256, 256))
        side = (side - 1) // 4 + 1
        self.features = nn.Sequential(
            nn.Conv2d(depth, first, 11, stride=4, padding=5), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(first, second, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(second, third, 3, padding=1), nn.ReLU(),
            nn.Conv2d(third, fourth, 3, padding=1), nn.ReLU(),
            nn.Conv2d(fourth, fifth, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2) if side >= 8 else nn.Identity(),
        )  # fmt: skip
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(fifth, classes))
        for layer in self.features:
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.features(x))
        return logits
