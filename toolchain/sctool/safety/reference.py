"""Attacks that compare the model with shadow models, and the threshold that all of them fit alike."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from sctool.domain.membership import Shadows, Signals
from sctool.safety.attack import Need
from sctool.safety.statistics import margin
from sctool.safety.threshold import best_threshold

Values = NDArray[np.float64]
Score = Callable[[Signals], Values]
Learned = TypeVar("Learned")


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
    seeded: bool = False

    def fit(self, signals: Signals, seed: int) -> FittedReference:
        compute = self.calibrate(signals)
        return FittedReference(compute, best_threshold(compute(signals), signals.is_member))


def compare_sides(
    learn: Callable[[Values], Learned], log_density: Callable[[Values, Values, Learned], Values]
) -> Callable[[Signals], Score]:
    """The calibration of a likelihood ratio: log density of a record's margin among shadow models trained with it -
    that among those trained without, mean over queries.

    `learn` gets all margins [S, N, Q] of a side, NaN where a model does not count; what it makes of them goes, with the
    margins [N, Q] to judge and their side's [S, N, Q], into `log_density` [N, Q].
    """

    def calibrate(signals: Signals) -> Score:
        shadows = shadows_of(signals)
        inside, outside = (learn(select(shadows, inside=side)) for side in (True, False))

        def score(other: Signals) -> Values:
            seen, margins = shadows_of(other), target_margins(other)
            likelihood_in = log_density(margins, select(seen, inside=True), inside)
            likelihood_out = log_density(margins, select(seen, inside=False), outside)
            return np.asarray(np.mean(likelihood_in - likelihood_out, axis=1))

        return score

    return calibrate


def shadows_of(signals: Signals) -> Shadows:
    """The signals' shadow models; ValueError where there are none."""
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
