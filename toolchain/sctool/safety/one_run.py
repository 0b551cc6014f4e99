"""A lower bound on epsilon from one training run (Steinke, Nasr & Jagielski, NeurIPS 2023, "Privacy Auditing with One
(1) Training Run", theorem 5.2).

m canaries went into the training set with probability 1/2 each, independently; the auditor guesses of r of them which did
and did not, and is right v times. No (epsilon, delta)-differentially private training lets an auditor do so well but with
probability p; the bound is the largest epsilon with p < 1 - confidence.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom

CONFIDENCE = 0.95
SHARES = (0.02, 0.05, 0.1, 0.2, 0.4)
"""Of the canaries that an auditor guesses on: each is tried, and pays for the others (Bonferroni)."""
MOST = 60.0


@dataclass(frozen=True)
class OneRunAudit:
    """`epsilon` holds with probability `confidence`; `guesses` and `right` are those of the attempt that gave it."""

    epsilon: float
    delta: float
    confidence: float
    canaries: int
    guesses: int
    right: int

    def to_json(self) -> dict[str, Any]:
        return dict(vars(self))


def p_value(epsilon: float, delta: float, canaries: int, guesses: int, right: int) -> float:
    """P(at least `right` of `guesses` are right) for any (epsilon, delta)-DP training, at most."""
    q = 1 / (1 + np.exp(-epsilon))
    beta = float(binom.sf(right - 1, guesses, q))
    if delta == 0:
        return min(1.0, beta)
    i = np.arange(1, right + 1)
    between = binom.cdf(right - 1, guesses, q) - binom.cdf(right - i - 1, guesses, q)
    alpha = float((between / i).max()) if right > 0 else 0.0
    return min(1.0, beta + 2 * canaries * delta * alpha)


def bound_epsilon(
    canaries: int, guesses: int, right: int, *, delta: float = 0.0, confidence: float = CONFIDENCE
) -> float:
    """The largest epsilon that `right` of `guesses` refute; 0 where they refute none. ValueError for counts at odds."""
    if not 0 <= right <= guesses <= canaries:
        raise ValueError(f"right {right} <= guesses {guesses} <= canaries {canaries} does not hold")
    limit = 1 - confidence
    if p_value(0.0, delta, canaries, guesses, right) >= limit:
        return 0.0
    low, high = 0.0, 1.0
    while high < MOST and p_value(high, delta, canaries, guesses, right) < limit:
        low, high = high, 2 * high
    for _ in range(60):
        middle = (low + high) / 2
        if p_value(middle, delta, canaries, guesses, right) < limit:
            low = middle
        else:
            high = middle
    return low


def audit_one_run(
    scores: NDArray[np.float64], is_in: NDArray[np.bool_], *, delta: float = 0.0, confidence: float = CONFIDENCE
) -> OneRunAudit:
    """Guess "in" for the canaries that score highest and "out" for as many that score lowest, for each of SHARES.

    scores: float64 [m], higher = in; is_in: bool [m], drawn with probability 1/2 each before training. The best attempt
    counts, at a confidence that all attempts share. ValueError for fewer than 2 canaries.
    """
    m = len(scores)
    if m < 2 or is_in.shape != scores.shape:
        raise ValueError(f"scores {scores.shape}, is_in {is_in.shape}: at least two canaries are needed, of one length")
    order = np.argsort(scores, kind="stable")
    sides = sorted({max(1, int(share * m / 2)) for share in SHARES})
    each = 1 - (1 - confidence) / len(sides)
    best = OneRunAudit(0.0, delta, confidence, m, 2 * sides[0], _count_right(order, is_in, sides[0]))
    for side in sides:
        right = _count_right(order, is_in, side)
        epsilon = bound_epsilon(m, 2 * side, right, delta=delta, confidence=each)
        if epsilon > best.epsilon:
            best = OneRunAudit(epsilon, delta, confidence, m, 2 * side, right)
    return best


def _count_right(order: NDArray[np.int64], is_in: NDArray[np.bool_], side: int) -> int:
    return int(is_in[order[-side:]].sum() + (~is_in[order[:side]]).sum())
