"""Eager PyTorch: the reference that every exported artifact is held against."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

BATCH, BATCH_ON_CPU = 1024, 128
"""Records at a time; on the CPU as many as its caches like: twice as fast as 1,024 for a small CNN."""


class EagerSession:
    """Answers with model(batch) in eval mode, in chunks of as many records as suit its device."""

    name = "eager"

    def __init__(self, model: nn.Module) -> None:
        self._model = model.eval()

    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """float32 [B, ...] -> logits float32 [B, C]."""
        first = next(self._model.parameters(), None)
        device = torch.device("cpu") if first is None else first.device
        size = BATCH_ON_CPU if device.type == "cpu" else BATCH
        with torch.no_grad():
            parts = (torch.from_numpy(batch[i : i + size]).to(device) for i in range(0, len(batch), size))
            chunks = [self._model(part).float().cpu() for part in parts]
        return np.asarray(torch.cat(chunks).numpy())
