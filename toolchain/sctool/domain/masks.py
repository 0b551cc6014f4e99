"""Which weights exist: one boolean array a masked parameter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BoolArray = NDArray[np.bool_]


@dataclass(frozen=True)
class MaskSet:
    """Parameter name -> bool array of the parameter's shape (True: the weight exists)."""

    masks: Mapping[str, BoolArray]

    @property
    def nnz(self) -> int:
        """Number of weights that exist, over all masked parameters."""
        return sum(int(mask.sum()) for mask in self.masks.values())

    @property
    def size(self) -> int:
        """Number of positions in all masked parameters."""
        return sum(mask.size for mask in self.masks.values())

    @property
    def density(self) -> float:
        """nnz / size, in [0, 1]; 1.0 where nothing is masked."""
        return self.nnz / self.size if self.size else 1.0

    def layer_densities(self) -> dict[str, float]:
        """Parameter name -> share of its weights that exist."""
        return {name: float(mask.mean()) if mask.size else 1.0 for name, mask in self.masks.items()}
