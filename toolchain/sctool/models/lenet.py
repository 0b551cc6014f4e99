"""LeNet-5 (LeCun et al., 1998) with ReLU and max-pooling."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from sctool.models.shapes import image_input


class LeNet(nn.Module):
    """[B, D, H, W] -> logits [B, C]: two blocks of conv 5x5 + ReLU + max-pool 2, then Linear 120, 84 and C.

    Sides of at least 12; under 32 the first convolution pads by 2, so that 28 x 28 and 32 x 32 both end at 5 x 5.
    """

    def __init__(self, input_shape: Sequence[int], classes: int) -> None:
        super().__init__()
        depth, side = image_input(input_shape, needed=12)
        padding = 2 if side < 32 else 0
        height, width = (((size + 2 * padding - 4) // 2 - 4) // 2 for size in input_shape[1:])
        self.features = nn.Sequential(
            nn.Conv2d(depth, 6, 5, padding=padding), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2),
        )  # fmt: skip
        self.head = nn.Sequential(
            nn.Flatten(), nn.Linear(16 * height * width, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(),
            nn.Linear(84, classes),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.features(x))
        return logits
