"""Attacks that compare the model with shadow models, and the threshold that all of them fit alike."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sctool.domain.membership import Shadows, Signals
from sctool.safety.attack import Need
from sctool.safety.statistics import margin
from sctool.safety.threshold import best_threshold

Values = NDArray[np.float64]
Score = Callable[[Signals], Values]


@dataclass(frozen=True)
class FittedReference:
    """`compute`: signals -> float64 [N], higher = member."""

    compute: Score
    threshold: float

    def score(self, signals: Signals) -> Values:
        return self.compute(signals)


@dataclass(frozen=True)
class ReferenceAttack:
    """`calibrate` looks at the records fitted on (their shadow models' answers, for one, make the pooled variances) and
    gives the score; the threshold is the best for it on these records."""

    name: str
    calibrate: Callable[[Signals], Score]
    threat_model: str
    needs: frozenset[Need] = frozenset({"shadows"})

    def fit(self, signals: Signals, seed: int) -> FittedReference:
        compute = self.calibrate(signals)
        return FittedReference(compute, best_threshold(compute(signals), signals.is_member))


def shadows_of(signals: Signals) -> Shadows:
    """The signals' shadow models; ValueError where there are none, or a record was in or out of none."""
    if signals.shadows is None:
        raise ValueError("this attack needs shadow models")
    return signals.shadows


def target_margins(signals: Signals) -> Values:
    """float64 [N, Q]: the attacked model's margins."""
    queries = range(signals.logits.shape[1])
    return np.stack([margin(signals.logits[:, q], signals.labels) for q in queries], axis=1)


def log_probability(margins: Values) -> Values:
    """log p_y from log p_y - log(1 - p_y), without loss of precision at either end."""
    return np.asarray(-np.logaddexp(0.0, -margins))


def select(shadows: Shadows, *, inside: bool) -> Values:
    """float64 [S, N, Q]: the margins of shadow models that were (not) trained on the record; NaN for the others.

    ValueError where a record has none.
    """
    chosen = shadows.is_in if inside else ~shadows.is_in
    if not chosen.any(axis=0).all():
        raise ValueError(f"a record was {'in' if inside else 'out of'} no shadow model's training set")
    return np.where(chosen[:, :, None], shadows.margins, np.nan)
