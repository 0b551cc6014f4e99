"""Eager PyTorch: the reference that every exported artifact is held against."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

BATCH = 1024


class EagerSession:
    """Answers with model(batch) in eval mode, in chunks of `BATCH` records."""

    name = "eager"

    def __init__(self, model: nn.Module) -> None:
        self._model = model.eval()

    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """float32 [B, ...] -> logits float32 [B, C]."""
        first = next(self._model.parameters(), None)
        device = "cpu" if first is None else first.device
        with torch.no_grad():
            parts = (torch.from_numpy(batch[i : i + BATCH]).to(device) for i in range(0, len(batch), BATCH))
            chunks = [self._model(part).float().cpu() for part in parts]
        return np.asarray(torch.cat(chunks).numpy())
