"""Altered copies: the first is the record, the others are like it, and the same each time."""

from __future__ import annotations

import numpy as np
import pytest

from sctool.data.queries import make_queries

RNG = np.random.default_rng(0)
KINDS = {
    "images": RNG.normal(size=(6, 3, 8, 8)), "series": RNG.normal(size=(6, 2, 32)),
    "bits": (RNG.random((6, 400)) < 0.2), "numbers": RNG.normal(size=(6, 40)), "tokens": RNG.integers(0, 90, (6, 400)),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_queries_are_like_the_record(kind: str) -> None:
    x = KINDS[kind].astype(np.float32)
    before = x.copy()
    asked = make_queries(x, 4, 7)
    assert asked.shape == (6, 4, *x.shape[1:]) and asked.dtype == np.float32
    np.testing.assert_array_equal(asked[:, 0], x)
    np.testing.assert_array_equal(asked, make_queries(x, 4, 7))
    np.testing.assert_array_equal(x, before)
    assert all(not np.array_equal(asked[:, q], x) for q in range(1, 4))
    if kind in ("bits", "tokens"):
        assert 0 < (asked[:, 1:] != x[:, None]).mean() < 0.1
        assert set(np.unique(asked)) <= set(np.unique(x)) | {0.0}
    if kind == "images":
        np.testing.assert_array_equal(asked[:, 1], x[..., ::-1])
    if kind == "numbers":
        assert np.abs(asked[:, 1] - x).max() < x.std()
