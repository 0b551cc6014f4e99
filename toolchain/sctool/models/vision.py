"""Models for images [B, channels, height, width]."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn


class SmallCnn(nn.Module):
    """Two blocks of conv 3x3 + norm + ReLU + max-pool 2, then two Linear layers; needs sides of at least 4.

    norm: "batch", or "group" (groups of 8 channels or fewer), which looks at one record alone, as DP-SGD needs.
    """

    def __init__(
        self, input_shape: Sequence[int], classes: int, channels: Sequence[int] = (16, 32), hidden: int = 64,
        norm: str = "batch",
    ) -> None:  # fmt: skip
        super().__init__()
        depth, height, width = input_shape
        first, second = channels
        self.features = nn.Sequential(
            nn.Conv2d(depth, first, 3, padding=1), _make_norm(norm, first), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(first, second, 3, padding=1), _make_norm(norm, second), nn.ReLU(), nn.MaxPool2d(2),
        )  # fmt: skip
        self.head = nn.Sequential(
            nn.Flatten(),
            nn.Linear(second * (height // 4) * (width // 4), hidden),
            nn.ReLU(),
            nn.Linear(hidden, classes),
        )

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.features(x))
        return logits


def _make_norm(norm: str, channels: int) -> nn.Module:
    if norm not in ("batch", "group"):
        raise ValueError(f"norm = {norm!r}; expected 'batch' or 'group'")
    return nn.BatchNorm2d(channels) if norm == "batch" else nn.GroupNorm(max(1, channels // 8), channels)
