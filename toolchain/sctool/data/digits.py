"""Reader for the digits that ship inside scikit-learn: 1,797 images of 8 x 8."""

from __future__ import annotations

import numpy as np

from sctool.data.dataset import Dataset, check_dataset


def read_digits() -> Dataset:
    """x float32 [1797, 64] in [0, 1], y [1797] in 0..9."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    x = (np.asarray(bunch.data) / 16.0).astype(np.float32)
    scale: dict[str, object] = {"kind": "divide", "by": 16.0}
    return check_dataset(x, np.asarray(bunch.target).astype(np.int64), source="digits", normalisation=scale)
