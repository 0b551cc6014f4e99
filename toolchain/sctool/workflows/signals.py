"""Records of a split, asked of a session: the Signals that attacks see."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sctool.data.dataset import Dataset
from sctool.data.queries import make_queries
from sctool.domain.artifact import Session
from sctool.domain.measurement import AttackResult
from sctool.domain.membership import MembershipSplit, Population, Shadows, Signals
from sctool.errors import ConfigError
from sctool.safety.attack import Attack, Need
from sctool.safety.evaluate import evaluate_attack
from sctool.safety.registry import create_attack
from sctool.safety.statistics import margin

Rows = NDArray[np.int64]
QUERY_SEED = 20_240_601
NEED_NAMES: dict[Need, str] = {
    "queries": "altered copies of the records", "records": "the records", "features": "the model's gradients",
    "shadows": "shadow models", "population": "shadow models and records that nobody was trained on",
}  # fmt: skip


@dataclass(frozen=True)
class ShadowAnswers:
    """What S shadow models answered: `rows` int64 [P], sorted, of the data set; margins float64 [S, P, Q]; is_in bool
    [S, P]; `population`: rows among them that no model was trained on."""

    rows: Rows
    margins: NDArray[np.float64]
    is_in: NDArray[np.bool_]
    population: Rows

    def take(self, rows: Rows) -> Shadows:
        """Of these rows of the data set."""
        at = self._find(rows)
        return Shadows(self.margins[:, at], self.is_in[:, at])

    def population_margins(self) -> NDArray[np.float64]:
        """float64 [S, Z]: query 0."""
        return self.margins[:, self._find(self.population), 0]

    def _find(self, rows: Rows) -> Rows:
        at = np.searchsorted(self.rows, rows)
        if not np.array_equal(self.rows[np.minimum(at, len(self.rows) - 1)], rows):
            raise KeyError("rows that the shadow models were not asked about")
        return at.astype(np.int64)


@dataclass(frozen=True)
class Extras:
    """What attacks see beyond the answers to the records as they are. `inside`: (x, y) -> features [N, G]."""

    queries: int = 1
    records: bool = False
    shadows: ShadowAnswers | None = None
    inside: Callable[[NDArray[np.float32], NDArray[np.int64]], NDArray[np.float32]] | None = None

    @property
    def held(self) -> frozenset[Need]:
        """What an attack may need, and finds here."""
        found: dict[Need, bool] = {
            "queries": self.queries > 1, "records": self.records, "features": self.inside is not None,
            "shadows": self.shadows is not None,
            "population": self.shadows is not None and len(self.shadows.population) > 0,
        }  # fmt: skip
        return frozenset(need for need, there in found.items() if there)


NO_EXTRAS = Extras()


def collect_signals(
    session: Session, data: Dataset, split: MembershipSplit, pair: str, extras: Extras = NO_EXTRAS
) -> Signals:
    """Signals for the members and non-members of `pair` ("attack_select", "audit", ...)."""
    rows, is_member = split.pair(pair)
    x, y = data.x[rows], data.y[rows]
    shadows = extras.shadows
    population = None
    if shadows is not None and len(shadows.population):
        outside = margin(session.run(data.x[shadows.population]), data.y[shadows.population])
        population = Population(outside, shadows.population_margins())
    return Signals(
        ask(session, x, extras.queries), y, is_member,
        records=x.reshape(len(x), -1) if extras.records else None,
        features=extras.inside(x, y) if extras.inside else None,
        shadows=shadows.take(rows) if shadows else None, population=population,
    )  # fmt: skip


def ask(session: Session, x: NDArray[np.float32], queries: int) -> NDArray[np.float32]:
    """x [N, ...] -> logits float32 [N, Q, C]."""
    if queries == 1:
        return session.run(x)[:, None, :]
    asked = make_queries(x, queries, QUERY_SEED)
    logits = session.run(np.ascontiguousarray(asked.reshape(-1, *x.shape[1:])))
    return logits.reshape(len(x), queries, -1)


def measure_accuracy(session: Session, data: Dataset, rows: Rows) -> float:
    """Share of `rows` whose largest logit is the label's."""
    return float((session.run(data.x[rows]).argmax(axis=1) == data.y[rows]).mean())


def create_attacks(names: list[str], extras: Extras = NO_EXTRAS, *, where: str) -> list[Attack]:
    """ConfigError, naming `where`, for an unknown attack, and for one that needs what is not there."""
    attacks = [create_attack(name) for name in names]
    for attack in attacks:
        lacking = sorted(attack.needs - extras.held)
        if lacking:
            raise ConfigError(
                f"{where}: attack {attack.name!r} needs {NEED_NAMES[lacking[0]]}, which are not there.",
                hint="`sctool verify --shadows N` has them all; here, name attacks on the outputs alone.",
            )
    return attacks


def attack_session(
    session: Session, data: Dataset, split: MembershipSplit, *, attacks: list[str], fit: str, score: str, seed: int,
    extras: Extras = NO_EXTRAS,
) -> list[AttackResult]:  # fmt: skip
    """Fit each attack on the pair `fit` and score it on the pair `score`."""
    created = create_attacks(attacks, extras, where="attacks")
    fitted_on = collect_signals(session, data, split, fit, extras)
    scored_on = collect_signals(session, data, split, score, extras)
    return [evaluate_attack(attack, fitted_on, scored_on, seed) for attack in created]
