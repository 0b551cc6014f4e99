"""One proposal of a round and how it fared in the tests."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Candidate:
    """A proposal (drop, grow, loss), trained for one round from the round's parent, with its test figures.

    Accuracies and AUC are in [0, 1], taken on `validation` (task) and `attack_select` (safety), at step `steps`: a
    candidate that was stopped early has the figures of its last test. `attack_accuracy` and `attack_auc` join those of
    all safety tests, which `safety` holds by attack. `macs`: multiply-accumulates of the non-zeros for one record.
    `tm_error`: the standard error of the TM-score that the number of tested records leaves.
    """

    round: int
    candidate: int
    drop: str
    grow: str
    loss: str
    seed: int
    parent: str
    task_accuracy: float
    attack_accuracy: float
    attack_auc: float
    tm_score: float
    density: float
    nnz: int
    macs: int
    steps: int
    seconds: float
    safety: dict[str, dict[str, float]] = field(default_factory=dict)
    tm_error: float = 0.0

    @property
    def name(self) -> str:
        """ "round.candidate", unique in a run."""
        return f"{self.round}.{self.candidate}"

    @property
    def label(self) -> str:
        """ "drop/grow", "drop/grow/loss", "keep" or "keep/loss"."""
        parts = (self.drop, self.grow, "" if self.loss == "cross_entropy" else self.loss)
        return "/".join(part for part in parts if part)

    def to_json(self, *, selected: bool) -> dict[str, Any]:
        return {**self.__dict__, "name": self.name, "label": self.label, "selected": selected}


def tm_error(
    task_accuracy: float, attack_accuracy: float, task_records: int, attack_records: int, exponent: float = 1.0
) -> float:
    """Standard error of `tm_score`: binomial errors of both accuracies, carried through to first order."""
    attack = max(attack_accuracy, 0.5)
    task_share = exponent**2 * (1 - task_accuracy) / max(task_accuracy * task_records, 1e-12)
    attack_share = (1 - attack) / (attack * attack_records)
    return float(tm_score(task_accuracy, attack_accuracy, exponent) * (task_share + attack_share) ** 0.5)


def tm_score(task_accuracy: float, attack_accuracy: float, exponent: float = 1.0) -> float:
    """task_accuracy ** exponent / attack_accuracy; higher is better. Our reading of SafeCompress (ASE 2022).

    Attack accuracies under chance are counted as 0.5: an attacker can always invert, and luck is no privacy (ours).
    """
    return float(task_accuracy**exponent / max(attack_accuracy, 0.5))
