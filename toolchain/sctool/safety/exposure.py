"""Who is hit: an attack's figures class by class, and the members that it is surest of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sctool.domain.measurement import AttackResult, Interval
from sctool.safety.metrics import auc, auc_p_value

FEWEST = 10
"""Members, and non-members, that a class needs for a figure of its own."""


@dataclass(frozen=True)
class ClassFigure:
    """An attack's figures within class `label`; `auc` and its `p`, how often it would be as large without a leak, are
    None where the class has too few records."""

    label: int
    members: int
    non_members: int
    auc: Interval | None
    p: float | None

    def to_json(self) -> dict[str, Any]:
        return {
            "class": self.label, "members": self.members, "non_members": self.non_members,
            "auc": self.auc.to_json() if self.auc else None, "auc_p_value": self.p,
        }  # fmt: skip


def split_by_class(result: AttackResult, labels: NDArray[np.int64]) -> list[ClassFigure]:
    """labels int64 [N] -> a figure for each class that occurs, in their order."""
    found = []
    for label in np.unique(labels):
        scores, flags = result.scores[labels == label], result.is_member[labels == label]
        members, others = int(flags.sum()), int((~flags).sum())
        enough = min(members, others) >= FEWEST
        found.append(
            ClassFigure(
                int(label), members, others, auc(scores, flags) if enough else None,
                auc_p_value(scores, flags) if enough else None,
            )
        )  # fmt: skip
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
