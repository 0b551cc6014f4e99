"""Altered copies of records: what an attacker asks a model besides the record itself."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Records = NDArray[np.float32]
FLIPPED_BITS, ERASED, NOISE = 0.03, 0.05, 0.1


def make_queries(x: Records, count: int, seed: int) -> Records:
    """x [N, ...] -> [N, count, ...]: query 0 is the record, each other an altered copy, the same for the same seed.

    Images [N, C, H, W]: mirrored left to right, then moved by up to 2 pixels, the edge repeated. Series [N, C, T]: moved
    in time by up to T / 16. Vectors [N, F]: of zeros and ones, 3 % of them turned; of whole numbers (token ids), 5 % set to
    zero; others, normal noise of a tenth of each feature's spread.
    """
    generator = np.random.default_rng(seed)
    copies = [x]
    for number in range(1, count):
        if x.ndim == 4:
            copies.append(x[..., ::-1] if number == 1 else _move(x, 2, generator))
        elif x.ndim == 3:
            copies.append(_move(x, max(1, x.shape[-1] // 16), generator))
        else:
            copies.append(_disturb(x, generator))
    return np.ascontiguousarray(np.stack(copies, axis=1), dtype=np.float32)


def _move(x: Records, most: int, generator: np.random.Generator) -> Records:
    """All records by one random step along each axis after the channels."""
    for axis in range(2, x.ndim):
        step = int(generator.integers(-most, most + 1))
        places = np.clip(np.arange(x.shape[axis]) - step, 0, x.shape[axis] - 1)
        x = np.take(x, places, axis=axis)
    return x


def _disturb(x: Records, generator: np.random.Generator) -> Records:
    flat = x.reshape(len(x), -1)
    values = np.unique(flat[: min(len(flat), 1000)])
    if len(values) == 2:
        turned = generator.random(flat.shape) < FLIPPED_BITS
        flat = np.where(turned, values[0] + values[1] - flat, flat)
    elif len(values) > 2 and np.array_equal(values, np.round(values)):
        flat = np.where(generator.random(flat.shape) < ERASED, 0, flat)
    else:
        flat = flat + NOISE * flat.std(axis=0) * generator.standard_normal(flat.shape)
    return flat.reshape(x.shape).astype(np.float32)
