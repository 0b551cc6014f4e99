"""Canaries: out of the test records, wrongly labelled, each in by a fair coin."""

from __future__ import annotations

import numpy as np
import pytest

from sctool.data.canaries import draw_canaries
from sctool.data.splits import make_split
from sctool.domain.data_config import SplitConfig
from sctool.errors import DataError

Y = np.arange(2000) % 4
SPLIT = make_split(Y, SplitConfig())


def test_they_leave_the_test_part_and_no_other() -> None:
    canaries, split = draw_canaries(SPLIT, Y, 4, 50, 3)
    assert len(canaries.rows) == len(canaries.labels) == len(canaries.is_in) == 50
    assert np.isin(canaries.rows, SPLIT["test"]).all()
    np.testing.assert_array_equal(np.union1d(canaries.rows, split["test"]), SPLIT["test"])
    assert not np.isin(canaries.rows, split["test"]).any() and split.sha256 == SPLIT.sha256
    assert all(np.array_equal(split[name], SPLIT[name]) for name in SPLIT.parts if name != "test")
    assert (canaries.labels != Y[canaries.rows]).all() and set(canaries.labels) <= {0, 1, 2, 3}
    again, _ = draw_canaries(SPLIT, Y, 4, 50, 3)
    np.testing.assert_array_equal(canaries.is_in, again.is_in)


def test_the_coin_is_fair() -> None:
    heads = np.mean([draw_canaries(SPLIT, Y, 4, 100, seed)[0].is_in.mean() for seed in range(60)])
    assert abs(heads - 0.5) < 4 * 0.5 / np.sqrt(6000)


def test_too_many_are_refused() -> None:
    with pytest.raises(DataError, match="at most half may go"):
        draw_canaries(SPLIT, Y, 4, len(SPLIT["test"]), 0)
