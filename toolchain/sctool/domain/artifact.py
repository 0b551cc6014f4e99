"""A file that ships, and the session that answers for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

ArtifactFormat = Literal["onnx", "pte"]


@dataclass(frozen=True)
class TensorSpec:
    """Name, dtype ("float32") and shape of an input or output; the first dimension is the batch (None: any)."""

    name: str
    dtype: str
    shape: tuple[int | None, ...]


class Session(Protocol):
    """A loaded model that turns a batch into logits, whatever runs underneath."""

    name: str

    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """float32 [B, ...] -> logits float32 [B, C]; any B >= 1 (implementations split it where they must)."""
        ...
