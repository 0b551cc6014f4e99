"""What an attack is: fitted on records whose membership is known, it scores others by what a model says of them."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from sctool.domain.membership import Signals


class FittedAttack(Protocol):
    """`score` gives float64 [N], higher = member; a record counts as a member where score >= threshold."""

    @property
    def threshold(self) -> float: ...

    def score(self, signals: Signals) -> NDArray[np.float64]: ...


class Attack(Protocol):
    """`threat_model` says what the attacker has, in one sentence."""

    @property
    def name(self) -> str: ...

    @property
    def threat_model(self) -> str: ...

    def fit(self, signals: Signals, seed: int) -> FittedAttack: ...


@runtime_checkable
class WarmStart(Protocol):
    """An attack that is slow to fit, and can go on from one that was fitted on a model much like this one."""

    def refit(self, fitted: FittedAttack, signals: Signals, seed: int) -> FittedAttack:
        """`fitted`, by the same attack, stays as it is."""
        ...


def fit_from(attack: Attack, fitted: FittedAttack, signals: Signals, seed: int) -> FittedAttack:
    """Fit `attack` on `signals`, from `fitted` where the attack can start from it."""
    return attack.refit(fitted, signals, seed) if isinstance(attack, WarmStart) else attack.fit(signals, seed)
