"""Do two runtimes give the same answers?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Parity:
    """max_abs_error over all logits; top1_agreement: share of records with the same largest logit."""

    records: int
    max_abs_error: float
    top1_agreement: float

    def to_json(self) -> dict[str, float | int]:
        return dict(vars(self))

    def holds(self, max_abs_error: float, min_top1_agreement: float) -> bool:
        return self.max_abs_error <= max_abs_error and self.top1_agreement >= min_top1_agreement


def compare_logits(reference: NDArray[np.float32], other: NDArray[np.float32]) -> Parity:
    """Compare logits [N, C]; a NaN or infinity on either side, or another shape, counts as the largest error."""
    if reference.shape != other.shape or not (np.isfinite(reference).all() and np.isfinite(other).all()):
        return Parity(len(reference), float(np.finfo(np.float64).max), 0.0)
    error = float(np.abs(reference.astype(np.float64) - other).max()) if reference.size else 0.0
    return Parity(
        len(reference), error, float((reference.argmax(1) == other.argmax(1)).mean()) if len(reference) else 1.0
    )
