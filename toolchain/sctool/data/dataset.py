"""Records as plain arrays, checked before anything is trained on them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sctool.errors import DataError


@dataclass(frozen=True)
class Dataset:
    """x: float32 [N, ...], already normalised; y: int64 [N] in 0..C-1; `normalisation` says what was done to x.

    `in_train`: bool [N], True where the set itself counts a record to its training part; None where it does not say.
    """

    x: NDArray[np.float32]
    y: NDArray[np.int64]
    labels: list[str]
    normalisation: dict[str, object]
    source: str
    in_train: NDArray[np.bool_] | None = None

    @property
    def sha256(self) -> str:
        """Of the records and their labels."""
        digest = hashlib.sha256()
        for array in (self.x, self.y):
            digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
        return digest.hexdigest()

    @property
    def classes(self) -> int:
        return len(self.labels)


def check_dataset(
    x: object,
    y: object,
    *,
    source: str,
    labels: list[str] | None = None,
    normalisation: dict[str, object] | None = None,
    in_train: NDArray[np.bool_] | None = None,
) -> Dataset:
    """Turn arrays into a Dataset. DataError on wrong shapes, NaN, infinities, fewer than two classes."""
    features, targets = np.asarray(x), np.asarray(y)
    if features.ndim < 2 or targets.ndim != 1 or len(features) != len(targets):
        raise DataError(
            f"{source}: x has shape {list(features.shape)} and y {list(targets.shape)}; expected x [N, ...] and y [N].",
            hint="Give one label a record, and at least one feature dimension.",
        )
    if features.size == 0:
        what = "features" if len(features) else "records"
        raise DataError(f"{source}: no {what}.", hint="Give at least a few hundred records with something in each.")
    if features.dtype.kind not in "fiub" or targets.dtype.kind not in "iu":
        raise DataError(
            f"{source}: x is {features.dtype} and y is {targets.dtype}; expected numbers and whole-number labels.",
            hint="Convert them before saving.",
        )
    with np.errstate(over="ignore"):
        features = np.ascontiguousarray(features, dtype=np.float32)
    bad = ~np.isfinite(features.reshape(len(features), -1)).all(axis=1)
    if bad.any():
        raise DataError(
            f"{source}: {int(bad.sum())} of {len(bad)} records hold NaN or infinity (first: record {int(bad.argmax())}).",
            hint="Remove or fill them; numbers over 3e38 count as infinite.",
        )
    present = np.unique(targets)
    if present[0] < 0 or present[-1] >= 100_000 or len(present) < 2:
        raise DataError(
            f"{source}: labels run from {present[0]} to {present[-1]} in {len(present)} classes; expected 0..C-1, C >= 2.",
            hint="Number the classes from 0.",
        )
    names = labels or [str(k) for k in range(int(present[-1]) + 1)]
    if present[-1] >= len(names):
        raise DataError(
            f"{source}: label {present[-1]} has no name; {len(names)} names are given.", hint="Name them all."
        )
    if in_train is not None and (in_train.shape != targets.shape or in_train.dtype != np.bool_):
        raise DataError(
            f"{source}: `train` is {in_train.dtype} {list(in_train.shape)}; expected bool [{len(targets)}].",
            hint="Save one flag a record, or none.",
        )
    done = normalisation or {"kind": "none"}
    return Dataset(features, targets.astype(np.int64), names, done, source, in_train)
