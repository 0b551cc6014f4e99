"""Threshold attacks: a statistic, and the threshold that best tells members apart on the records fitted on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sctool.domain.membership import Signals
from sctool.safety.attack import Need

Statistic = Callable[[NDArray[np.floating], NDArray[np.int64]], NDArray[np.float64]]


def best_threshold(values: NDArray[np.float64], is_member: NDArray[np.bool_]) -> float:
    """The observed value t for which `value >= t` maximises (TPR + TNR) / 2.

    Ties: the first maximum in the order [members; non-members] (FINDINGS D). O(n log n).
    """
    members, others = values[is_member], values[~is_member]
    ordered = np.concatenate([members, others])
    hits = len(members) - np.searchsorted(np.sort(members), ordered, side="left")
    rejections = np.searchsorted(np.sort(others), ordered, side="left")
    quality = hits * max(len(others), 1) + rejections * max(len(members), 1)  # whole numbers, so that ties are ties
    return float(ordered[int(np.argmax(quality))])


@dataclass(frozen=True)
class FittedThreshold:
    """Scores are the statistic minus the class's threshold, so 0 decides."""

    statistic: Statistic
    by_class: dict[int, float]
    otherwise: float
    threshold: float = 0.0
    all_queries: bool = False

    def score(self, signals: Signals) -> NDArray[np.float64]:
        offsets = np.array(
            [self.by_class.get(int(label), self.otherwise) for label in signals.labels], dtype=np.float64
        )
        return compute_statistic(self.statistic, signals, all_queries=self.all_queries) - offsets


@dataclass(frozen=True)
class ThresholdAttack:
    """One threshold for all records, or one for each class (`per_class`); on the record as it is, or on the mean over
    all its queries (`all_queries`)."""

    name: str
    statistic: Statistic
    per_class: bool = False
    all_queries: bool = False
    threat_model: str = "Sees the model's outputs and the labels; knows the membership of some other records."
    needs: frozenset[Need] = frozenset()
    seeded: bool = False

    def fit(self, signals: Signals, seed: int) -> FittedThreshold:
        """A class without members or without non-members takes the threshold of all records."""
        values = compute_statistic(self.statistic, signals, all_queries=self.all_queries)
        overall = best_threshold(values, signals.is_member)
        by_class: dict[int, float] = {}
        for label in np.unique(signals.labels) if self.per_class else ():
            rows = signals.labels == label
            if signals.is_member[rows].any() and not signals.is_member[rows].all():
                by_class[int(label)] = best_threshold(values[rows], signals.is_member[rows])
        return FittedThreshold(self.statistic, by_class, overall, all_queries=self.all_queries)


def compute_statistic(statistic: Statistic, signals: Signals, *, all_queries: bool = False) -> NDArray[np.float64]:
    """float64 [N]: of the record as it is, or the mean over its Q queries."""
    queries = range(signals.logits.shape[1] if all_queries else 1)
    return np.asarray(np.mean([statistic(signals.logits[:, q], signals.labels) for q in queries], axis=0))
