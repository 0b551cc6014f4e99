"""Who is hit: an attack's figures class by class, and the members that it is surest of."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sctool.domain.measurement import AttackResult
from sctool.safety.metrics import auc

FEWEST = 10
"""Members, and non-members, that a class needs for a figure of its own."""


def split_by_class(result: AttackResult, labels: NDArray[np.int64]) -> list[dict[str, Any]]:
    """labels int64 [N] -> for each class its members, non-members and AUC; None where either are fewer than FEWEST."""
    found = []
    for label in np.unique(labels):
        rows = labels == label
        members, others = int(result.is_member[rows].sum()), int((~result.is_member[rows]).sum())
        figure = auc(result.scores[rows], result.is_member[rows]) if min(members, others) >= FEWEST else None
        found.append(
            {
                "class": int(label),
                "members": members,
                "non_members": others,
                "auc": figure.to_json() if figure else None,
            }
        )
    return found


def find_exposed(result: AttackResult, ids: NDArray[np.int64], count: int = 10) -> list[dict[str, Any]]:
    """ids int64 [N] of the records -> the `count` members with the highest scores, and for each the share of
    non-members that score as high: the false-positive rate at which it is named."""
    others = np.sort(result.scores[~result.is_member])
    members = np.flatnonzero(result.is_member)
    highest = members[np.argsort(-result.scores[members], kind="stable")][:count]
    alarms = len(others) - np.searchsorted(others, result.scores[highest], side="left")
    return [
        {"record": int(ids[row]), "score": float(result.scores[row]), "fpr": float(alarm) / len(others)}
        for row, alarm in zip(highest, alarms, strict=True)
    ]
