"""Rankings: TM-score, constraints, the Pareto front against its definition."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sctool.domain.candidate import Candidate, tm_error, tm_score
from sctool.domain.selection import (
    combine_tests,
    create_ranking,
    dominates,
    extend_front,
    parse_constraints,
    rank_by_front,
)
from sctool.errors import ConfigError


def make(number: int, accuracy: float, attack: float, auc: float | None = None, nnz: int = 100) -> Candidate:
    return Candidate(
        round=0, candidate=number, drop="magnitude", grow="gradient", loss="cross_entropy", seed=0, parent="initial",
        task_accuracy=accuracy, attack_accuracy=attack, attack_auc=attack if auc is None else auc,
        tm_score=tm_score(accuracy, attack), density=0.1, nnz=nnz, macs=10 * nnz, steps=1, seconds=0.0,
    )  # fmt: skip


steps = st.sampled_from([0.5, 0.6, 0.7, 0.8, 0.9])
many = st.lists(st.tuples(steps, steps), min_size=1, max_size=8).map(
    lambda pairs: [make(number, *pair) for number, pair in enumerate(pairs)]
)


def names(candidates: list[Candidate]) -> list[str]:
    return [candidate.name for candidate in candidates]


def test_tm_takes_the_best_ratio_and_the_earlier_of_a_tie() -> None:
    candidates = [make(0, 0.8, 0.6), make(1, 0.9, 0.6), make(2, 0.9, 0.6), make(3, 0.9, 0.9)]
    assert names(create_ranking("tm", "")(candidates)) == ["0.1", "0.2", "0.0", "0.3"]


def with_error(candidate: Candidate, error: float) -> Candidate:
    return replace(candidate, tm_error=error)


def test_within_the_error_of_the_best_accuracy_decides() -> None:
    best, close, far = (
        with_error(make(k, *pair), 0.1) for k, pair in enumerate([(0.78, 0.5), (0.8, 0.53), (0.9, 0.7)])
    )
    assert names(create_ranking("tm", "", 1.0)([far, best, close])) == ["0.1", "0.0", "0.2"]
    assert names(create_ranking("tm", "", 0.1)([far, best, close])) == ["0.0", "0.1", "0.2"]
    assert names(create_ranking("tm", "", 9.0)([far, best, close])) == ["0.2", "0.1", "0.0"]
    assert create_ranking("tm", "", 1.0)([]) == []


@given(many, st.floats(0.01, 3), st.floats(0, 0.3))
def test_within_errors_against_a_loop(candidates: list[Candidate], errors: float, error: float) -> None:
    candidates = [with_error(each, error) for each in candidates]
    ranked = create_ranking("tm", "", errors)(candidates)
    assert sorted(names(ranked)) == sorted(names(candidates))
    top = max(each.tm_score for each in candidates)
    close = [each for each in candidates if each.tm_score >= top - errors * error]
    assert {*names(ranked[: len(close)])} == {*names(close)}
    assert ranked[0].task_accuracy == max(each.task_accuracy for each in close)


@pytest.mark.parametrize(("task", "attack", "exponent"), [(0.8, 0.6, 1.0), (0.55, 0.85, 1.0), (0.9, 0.7, 2.0)])
def test_the_error_of_the_score_is_that_of_repeated_tests(task: float, attack: float, exponent: float) -> None:
    generator = np.random.default_rng(0)
    tasks = generator.binomial(800, task, 20_000) / 800
    attacks = generator.binomial(600, attack, 20_000) / 600
    scores = [tm_score(t, a, exponent) for t, a in zip(tasks, attacks, strict=True)]
    assert tm_error(task, attack, 800, 600, exponent) == pytest.approx(float(np.std(scores)), rel=0.05)


def test_constraints_hold_before_the_score_counts() -> None:
    rank = create_ranking("constraints", "accuracy >= 0.8 and attack_auc <= 0.6")
    best_score, holds, nearly = make(0, 0.9, 0.61, 0.75), make(1, 0.8, 0.6), make(2, 0.79, 0.6)
    assert names(rank([best_score, nearly, holds])) == ["0.1", "0.2", "0.0"]


@pytest.mark.parametrize(("relation", "holds"), [("<=", True), (">=", True), ("<", False), (">", False)])
def test_a_strict_relation_is_strict(relation: str, holds: bool) -> None:
    (constraint,) = parse_constraints(f"attack_auc {relation} 0.6")
    assert (constraint.excess(make(0, 0.8, 0.6)) == 0) is holds


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("acuracy >= 0.9", "Did you mean 'accuracy'"),
        ("accuracy = 0.9", "cannot read 'accuracy = 0.9'"),
        ("accuracy >= 0.9 or attack_auc <= 1", "cannot read"),
        ("accuracy >= 0.9.1", "cannot read"),
        ("accuracy >= 0.9 and", "cannot read ''"),
    ],
)
def test_what_is_no_constraint_is_named(text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        parse_constraints(text)


@given(many)
def test_the_first_of_a_pareto_ranking_is_dominated_by_none(candidates: list[Candidate]) -> None:
    ranked = rank_by_front(candidates)
    assert sorted(names(ranked)) == sorted(names(candidates))
    assert not any(dominates(other, ranked[0]) for other in candidates)


@given(many)
def test_the_front_is_what_no_other_dominates(candidates: list[Candidate]) -> None:
    front: list[Candidate] = []
    for candidate in candidates:
        front = extend_front(front, candidate, limit=100)
    figures = {(c.task_accuracy, c.attack_accuracy) for c in front}
    naive = {
        (c.task_accuracy, c.attack_accuracy) for c in candidates if not any(dominates(other, c) for other in candidates)
    }
    assert figures == naive
    assert len(front) == len(figures)


@given(many, st.integers(1, 3))
def test_a_full_front_keeps_the_best_scores(candidates: list[Candidate], limit: int) -> None:
    front: list[Candidate] = []
    for candidate in candidates:
        front = extend_front(front, candidate, limit)
    assert len(front) <= limit
    assert max(c.tm_score for c in front) == max(c.tm_score for c in candidates)


def test_several_tests_count_by_the_worst_or_by_weight() -> None:
    assert combine_tests([0.6, 0.8], []) == 0.8
    assert combine_tests([0.6, 0.8], [3.0, 1.0]) == pytest.approx(0.65)


def test_luck_is_no_privacy() -> None:
    assert tm_score(0.8, 0.3) == tm_score(0.8, 0.5) == 1.6
