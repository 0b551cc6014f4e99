"""Which candidate of a round is the best: by TM-score, under constraints, or on the Pareto front."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sctool.domain.candidate import Candidate
from sctool.errors import ConfigError
from sctool.resources import suggest

FIGURES: dict[str, Callable[[Candidate], float]] = {
    "accuracy": lambda c: c.task_accuracy,
    "attack_accuracy": lambda c: c.attack_accuracy,
    "attack_auc": lambda c: c.attack_auc,
    "tm_score": lambda c: c.tm_score,
    "nnz": lambda c: c.nnz,
    "macs": lambda c: c.macs,
}
"""What a constraint may speak of."""
_OPERATORS: dict[str, Callable[[float, float], bool]] = {
    "<=": operator.le, ">=": operator.ge, "<": operator.lt, ">": operator.gt,
}  # fmt: skip
_CONSTRAINT = re.compile(r"\s*(\w+)\s*(<=|>=|<|>)\s*([0-9.eE+-]+)\s*")


@dataclass(frozen=True)
class Constraint:
    """`figure` `relation` `limit`, as in attack_auc <= 0.55."""

    figure: str
    relation: str
    limit: float

    def excess(self, candidate: Candidate) -> float:
        """0 where it holds, else how far off, as a share of the limit."""
        value = FIGURES[self.figure](candidate)
        if _OPERATORS[self.relation](value, self.limit):
            return 0.0
        return max(abs(value - self.limit) / max(abs(self.limit), 1e-12), 1e-12)


def parse_constraints(text: str) -> list[Constraint]:
    """ "accuracy >= 0.9 and attack_auc <= 0.55" -> two constraints; ConfigError on anything else."""
    constraints = []
    for part in re.split(r"\band\b", text):
        match = _CONSTRAINT.fullmatch(part)
        try:
            limit = float(match[3]) if match else None
        except ValueError:
            limit = None
        if match is None or limit is None:
            raise ConfigError(
                f"safety.constraints: cannot read {part.strip()!r} in {text!r}.",
                hint="Write figure, <= or >=, number; join several by 'and': accuracy >= 0.9 and attack_auc <= 0.55.",
            )
        if match[1] not in FIGURES:
            raise ConfigError(
                f"safety.constraints: unknown figure {match[1]!r} in {text!r}.", hint=suggest(match[1], list(FIGURES))
            )
        constraints.append(Constraint(match[1], match[2], limit))
    return constraints


Ranking = Callable[[Sequence[Candidate]], list[Candidate]]
"""Candidates of one round -> the same, best first; ties keep their order."""


def rank_by_tm_score(candidates: Sequence[Candidate]) -> list[Candidate]:
    """The highest TM-score first (SafeCompress, ASE 2022)."""
    return sorted(candidates, key=lambda c: -c.tm_score)


def rank_within_errors(errors: float) -> Ranking:
    """Those whose TM-score lies within `errors` standard errors of the best first, by task accuracy; then the others.

    The one-standard-error rule of Breiman et al. (1984): what a test cannot tell apart, it should not decide (ours).
    """

    def rank(candidates: Sequence[Candidate]) -> list[Candidate]:
        ranked = rank_by_tm_score(candidates)
        limit = ranked[0].tm_score - errors * ranked[0].tm_error if ranked else 0.0
        close = [each for each in ranked if each.tm_score >= limit]
        return sorted(close, key=lambda c: -c.task_accuracy) + ranked[len(close) :]

    return rank


def rank_by_constraints(constraints: Sequence[Constraint]) -> Ranking:
    """Those that hold all constraints first, by TM-score; then the others, the least total excess first (ours)."""

    def rank(candidates: Sequence[Candidate]) -> list[Candidate]:
        return sorted(candidates, key=lambda c: (sum(each.excess(c) for each in constraints), -c.tm_score))

    return rank


def rank_by_front(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Candidates that fewer others dominate first, then by TM-score (ours)."""
    return sorted(candidates, key=lambda c: (sum(dominates(other, c) for other in candidates), -c.tm_score))


def dominates(one: Candidate, other: Candidate) -> bool:
    """`one` is nowhere worse and somewhere better: task accuracy, attack accuracy, AUC, non-zeros, MACs."""
    a, b = _losses(one), _losses(other)
    return all(x <= y for x, y in zip(a, b, strict=True)) and a != b


def extend_front(front: Sequence[Candidate], new: Candidate, limit: int) -> list[Candidate]:
    """The front with `new`, without what it dominates; `front` itself where `new` is dominated or an equal is there.

    Over `limit`, the lowest TM-score goes.
    """
    if any(dominates(old, new) or _losses(old) == _losses(new) for old in front):
        return list(front)
    kept = [*(old for old in front if not dominates(new, old)), new]
    return sorted(kept, key=lambda c: -c.tm_score)[:limit]


def _losses(candidate: Candidate) -> tuple[float, ...]:
    return (
        -candidate.task_accuracy, candidate.attack_accuracy, candidate.attack_auc, candidate.nnz, candidate.macs,
    )  # fmt: skip


def create_ranking(mode: str, constraints: str, errors: float = 0.0) -> Ranking:
    """The ranking of a configuration: mode "tm" (within so many standard errors), "constraints" or "pareto"."""
    if mode == "constraints":
        return rank_by_constraints(parse_constraints(constraints))
    if mode == "pareto":
        return rank_by_front
    return rank_within_errors(errors) if errors else rank_by_tm_score


def combine_tests(values: Sequence[float], weights: Sequence[float]) -> float:
    """One figure from those of several safety tests: the largest, or, with weights, their weighted mean."""
    if not weights:
        return max(values)
    return sum(v * w for v, w in zip(values, weights, strict=True)) / sum(weights)
