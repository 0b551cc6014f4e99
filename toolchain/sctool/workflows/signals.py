"""Records of a split, asked of a session: the Signals that attacks see."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sctool.data.dataset import Dataset
from sctool.domain.artifact import Session
from sctool.domain.measurement import AttackResult
from sctool.domain.membership import MembershipSplit, Signals
from sctool.safety.evaluate import evaluate_attack
from sctool.safety.registry import create_attack


def collect_signals(session: Session, data: Dataset, split: MembershipSplit, pair: str) -> Signals:
    """Signals with Q = 1 for the members and non-members of `pair` ("attack_select", "audit", ...)."""
    rows, is_member = split.pair(pair)
    return Signals(session.run(data.x[rows])[:, None, :], data.y[rows], is_member)


def measure_accuracy(session: Session, data: Dataset, rows: NDArray[np.int64]) -> float:
    """Share of `rows` whose largest logit is the label's."""
    return float((session.run(data.x[rows]).argmax(axis=1) == data.y[rows]).mean())


def attack_session(
    session: Session, data: Dataset, split: MembershipSplit, *, attacks: list[str], fit: str, score: str, seed: int
) -> list[AttackResult]:
    """Fit each attack on the pair `fit` and score it on the pair `score`."""
    fitted_on = collect_signals(session, data, split, fit)
    scored_on = collect_signals(session, data, split, score)
    return [evaluate_attack(create_attack(name), fitted_on, scored_on, seed) for name in attacks]
