"""Canaries for the one-run audit: records with wrong labels, each put into the training set by the toss of a coin."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from sctool.domain.membership import Canaries, MembershipSplit
from sctool.errors import DataError

SEED = 50_021
LARGEST_SHARE = 0.5
"""Of the test records, at most: what they audit with is lost to the accuracy."""


def draw_canaries(
    split: MembershipSplit, y: NDArray[np.int64], classes: int, count: int, seed: int
) -> tuple[Canaries, MembershipSplit]:
    """`count` canaries out of the test records, and the split without them (its hash is still that of the whole).

    Each has a label drawn from the wrong ones: nothing but memory tells a model of it. DataError where the test records
    are too few.
    """
    test = split["test"]
    if count > LARGEST_SHARE * len(test):
        raise DataError(
            f"{count} canaries are asked for; the test part has {len(test)} records (at most half may go).",
            hint="Lower compress.canaries, or raise data.split.test.",
        )
    generator = np.random.default_rng([seed, SEED])
    rows = np.sort(generator.permutation(test)[:count])
    labels = (y[rows] + generator.integers(1, classes, count)) % classes
    parts = {**split.parts, "test": np.setdiff1d(test, rows)}
    return Canaries(rows, labels.astype(np.int64), generator.random(count) < 0.5), replace(split, parts=parts)
