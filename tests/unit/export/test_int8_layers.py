"""When a sparse program computes in int8."""

from __future__ import annotations

import pytest

from sctool.export.sparse.choice import Backend, LayerChoice
from sctool.export.sparse.int8 import beats_dense_int8, computes_int8


@pytest.mark.parametrize(
    ("nnz", "rows", "positions", "expected"),
    [
        (8192, 100, 1, True),
        (8191, 100, 1, False),
        (8, 4, 1024, True),
        (100_000, 100, 1, True),
        (100_001, 100, 1, False),
    ],
)
def test_layers_that_are_large_and_whose_rows_are_short(nnz: int, rows: int, positions: int, expected: bool) -> None:
    assert computes_int8(nnz, rows, positions) is expected


def layer(density: float, microseconds: float | None, backend: Backend = "sparse") -> LayerChoice:
    return LayerChoice("layer", "linear", (10, 100), round(1000 * density), backend, 1.0, 1.0, microseconds, "")


def test_programs_of_little_work_that_have_a_sparse_layer() -> None:
    assert beats_dense_int8([layer(0.1, 90.0), layer(1.0, 10.0, "dense")])
    assert not beats_dense_int8([layer(0.1, 10.0), layer(1.0, 90.0, "dense")])
    assert not beats_dense_int8([layer(0.1, 90.0, "xnnpack")])
    assert not beats_dense_int8([])
