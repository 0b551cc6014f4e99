"""Who is hit: figures by class, and the most exposed members by their own id."""

from __future__ import annotations

import numpy as np
import pytest

from sctool.safety.evaluate import summarise_scores
from sctool.safety.exposure import FEWEST, find_exposed, split_by_class
from sctool.safety.metrics import auc


def test_each_class_has_the_figure_of_its_records_alone() -> None:
    rng = np.random.default_rng(0)
    labels = np.array([0] * 80 + [1] * 80 + [2] * 12)
    flags = np.tile([True, False], 86)
    scores = rng.normal(size=172) + 2 * flags * (labels == 1)
    found = split_by_class(summarise_scores("loss", scores, flags, 0.0), labels)
    assert [each.label for each in found] == [0, 1, 2]
    assert found[1].auc is not None and found[1].auc == auc(scores[labels == 1], flags[labels == 1])
    assert found[1].auc.value > 0.8
    assert found[1].p is not None and found[0].p is not None and found[1].p < 1e-4 < found[0].p
    few = {"class": 2, "members": 6, "non_members": 6, "auc": None, "auc_p_value": None}
    assert found[2].to_json() == few and FEWEST > 6


def test_the_most_exposed_come_first_under_their_own_ids() -> None:
    flags = np.array([True, True, True, False, False, False, False])
    scores = np.array([0.1, 5.0, 3.0, 4.0, 0.0, -1.0, -2.0])
    ids = np.array([70, 71, 72, 73, 74, 75, 76])
    found = find_exposed(summarise_scores("loss", scores, flags, 0.0), ids, count=2)
    assert [each["record"] for each in found] == [71, 72]
    assert [each["fpr"] for each in found] == [0.0, pytest.approx(0.25)]
