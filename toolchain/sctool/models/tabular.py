"""Models for flat feature vectors."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor, nn


class Mlp(nn.Module):
    """[B, ...] -> logits [B, C]: flattened, then Linear + ReLU for each width of `hidden`, then Linear."""

    def __init__(self, input_shape: Sequence[int], classes: int, hidden: Sequence[int] = (512, 256)) -> None:
        super().__init__()
        widths = [math.prod(input_shape), *hidden]
        layers: list[nn.Module] = []
        for before, after in zip(widths, widths[1:], strict=False):
            layers += [nn.Linear(before, after), nn.ReLU()]
        self.layers = nn.Sequential(nn.Flatten(), *layers, nn.Linear(widths[-1], classes))

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.layers(x)
        return logits
