"""Attackers that start from random numbers, fitted with several seeds: a figure is not one seed's luck.

Such attackers differ from seed to seed by more than an interval over records tells. Their mean score is the stronger
attacker, and the spread of their AUCs is stated beside it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sctool.domain.membership import Signals
from sctool.safety.attack import Attack, FittedAttack
from sctool.safety.threshold import best_threshold


@dataclass(frozen=True)
class FittedMean:
    """The mean score of `members`, each fitted with a seed of its own on the same records."""

    members: tuple[FittedAttack, ...]
    threshold: float

    def score(self, signals: Signals) -> NDArray[np.float64]:
        return np.asarray(np.mean(self.score_each(signals), axis=0))

    def score_each(self, signals: Signals) -> NDArray[np.float64]:
        """float64 [S, N]."""
        return np.stack([member.score(signals) for member in self.members])


def fit_seeds(attack: Attack, signals: Signals, seed: int, count: int) -> FittedMean:
    """Fit `attack` with the seeds seed, seed + 1, ...; the threshold is the mean score's best on the same records."""
    members = tuple(attack.fit(signals, seed + k) for k in range(count))
    scores = FittedMean(members, 0.0).score(signals)
    return FittedMean(members, best_threshold(scores, signals.is_member))
