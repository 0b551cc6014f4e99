"""Statistics against their definitions, written out record by record."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sctool.safety import statistics


def _softmax(row: list[float]) -> list[float]:
    top = max(row)
    weights = [math.exp(v - top) for v in row]
    return [w / sum(weights) for w in weights]


@given(st.lists(st.lists(st.floats(-20, 20), min_size=4, max_size=4), min_size=1, max_size=6), st.data())
def test_against_the_definitions(rows: list[list[float]], data: st.DataObject) -> None:
    labels = np.array([data.draw(st.integers(0, 3)) for _ in rows])
    logits = np.array(rows, np.float64)
    for number, (row, label) in enumerate(zip(rows, labels, strict=True)):
        p = _softmax(row)
        entropy = -sum(q * math.log(max(q, 1e-30)) for q in p)
        modified = -(1 - p[label]) * math.log(max(p[label], 1e-30)) - sum(
            q * math.log(max(1 - q, 1e-30)) for i, q in enumerate(p) if i != label
        )
        assert statistics.confidence(logits, labels)[number] == pytest.approx(p[label], rel=1e-9)
        assert statistics.negative_loss(logits, labels)[number] == pytest.approx(
            math.log(p[label]), rel=1e-6, abs=1e-12
        )
        assert statistics.negative_entropy(logits, labels)[number] == pytest.approx(-entropy, rel=1e-6, abs=1e-9)
        assert statistics.negative_modified_entropy(logits, labels)[number] == pytest.approx(
            -modified, rel=1e-4, abs=1e-6
        )


def test_correctness_is_zero_or_one() -> None:
    logits = np.array([[2.0, 1.0], [0.0, 1.0]])
    assert statistics.correctness(logits, np.array([0, 0])).tolist() == [1.0, 0.0]


def test_huge_logits_stay_finite() -> None:
    logits = np.array([[1e4, -1e4], [-1e4, 1e4]], np.float32)
    for function in (statistics.confidence, statistics.negative_loss, statistics.negative_entropy,
                     statistics.negative_modified_entropy):  # fmt: skip
        assert np.isfinite(function(logits, np.array([0, 0]))).all()
