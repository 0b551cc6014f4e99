"""Your own data and your own model: two functions that sctool calls by name."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_breast_cancer
from torch import Tensor, nn


def load() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """x float32 [N, F] and y int64 [N] in 0..C-1, shuffled or not: sctool splits by class and seed."""
    bunch = load_breast_cancer()
    x = (bunch.data - bunch.data.mean(axis=0)) / bunch.data.std(axis=0)
    return x.astype(np.float32), bunch.target.astype(np.int64)


class Gated(nn.Module):
    """A layer of the user's own: sctool cannot mask its weight, leaves it dense and says so."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gate = nn.Parameter(torch.randn(width, width) / width**0.5)

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(x @ self.gate)


def build(width: int = 96) -> nn.Module:
    """Any nn.Module that maps [B, F] to logits [B, C]. Arguments come from model.options."""
    return nn.Sequential(
        nn.Linear(30, width), nn.BatchNorm1d(width), nn.ReLU(), Gated(width), nn.Linear(width, width), nn.ReLU(),
        nn.Linear(width, 2),
    )  # fmt: skip
