"""What an attack is: fitted on records whose membership is known, it scores others by what a model says of them."""

from __future__ import annotations

from typing import Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from sctool.domain.membership import Signals


class FittedAttack(Protocol):
    """`score` gives float64 [N], higher = member; a record counts as a member where score >= threshold."""

    @property
    def threshold(self) -> float: ...

    def score(self, signals: Signals) -> NDArray[np.float64]: ...


Need = Literal["queries", "records", "features", "shadows", "population"]
"""What an attack may want of Signals beyond the outputs for the records as they are."""


class Attack(Protocol):
    """`threat_model` says what the attacker has, in one sentence; `needs`, what the signals must hold for it; `seeded`,
    whether another seed gives another attacker."""

    @property
    def name(self) -> str: ...

    @property
    def threat_model(self) -> str: ...

    @property
    def needs(self) -> frozenset[Need]: ...

    @property
    def seeded(self) -> bool: ...

    def fit(self, signals: Signals, seed: int) -> FittedAttack: ...


@runtime_checkable
class WarmStart(Protocol):
    """An attack that is slow to fit, and can go on from one that was fitted on a model much like this one."""

    def refit(self, fitted: FittedAttack, signals: Signals, seed: int) -> FittedAttack:
        """`fitted`, by the same attack, stays as it is."""
        ...


def find_lacking(attack: Attack, signals: Signals) -> list[Need]:
    """What `attack` needs and `signals` do not hold, in alphabetical order."""
    held = {
        "queries": signals.logits.shape[1] > 1, "records": signals.records is not None,
        "features": signals.features is not None, "shadows": signals.shadows is not None,
        "population": signals.population is not None,
    }  # fmt: skip
    return sorted(need for need in attack.needs if not held[need])


def fit_from(attack: Attack, fitted: FittedAttack, signals: Signals, seed: int) -> FittedAttack:
    """Fit `attack` on `signals`, from `fitted` where the attack can start from it."""
    return attack.refit(fitted, signals, seed) if isinstance(attack, WarmStart) else attack.fit(signals, seed)
