"""The one-run audit: reference values, a naive oracle, and no epsilon where there is no leak."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sctool.safety.one_run import audit_one_run, bound_epsilon, p_value


@pytest.mark.parametrize(
    ("canaries", "guesses", "right", "delta", "epsilon", "digits"),
    [(1000, 100, 90, 0.0, 1.63082, 5), (1000, 200, 190, 1e-5, 2.3936, 4)],
)
def test_reference_values(canaries: int, guesses: int, right: int, delta: float, epsilon: float, digits: int) -> None:
    assert bound_epsilon(canaries, guesses, right, delta=delta) == pytest.approx(epsilon, abs=10**-digits / 2)


def naive_p_value(epsilon: float, delta: float, m: int, r: int, v: int) -> float:
    q = 1 / (1 + math.exp(-epsilon))
    point = [math.comb(r, k) * q**k * (1 - q) ** (r - k) for k in range(r + 1)]
    alpha = max((sum(point[v - i : v]) / i for i in range(1, v + 1)), default=0.0)
    return min(1.0, sum(point[v:]) + 2 * m * delta * alpha)


@given(st.integers(1, 40), st.data())
def test_the_p_value_is_the_papers(guesses: int, data: st.DataObject) -> None:
    right = data.draw(st.integers(0, guesses))
    epsilon, delta = data.draw(st.floats(0, 6)), data.draw(st.sampled_from([0.0, 1e-6, 1e-3]))
    found = p_value(epsilon, delta, 2 * guesses, guesses, right)
    assert found == pytest.approx(naive_p_value(epsilon, delta, 2 * guesses, guesses, right), rel=1e-6, abs=1e-12)


@given(st.integers(1, 60), st.data())
def test_more_right_guesses_bound_more(guesses: int, data: st.DataObject) -> None:
    right = data.draw(st.integers(0, guesses - 1))
    assert bound_epsilon(100, guesses, right) <= bound_epsilon(100, guesses, right + 1)


def test_chance_gives_an_epsilon_in_at_most_one_run_of_twenty() -> None:
    rng = np.random.default_rng(0)
    audits = [audit_one_run(rng.normal(size=400), rng.random(400) < 0.5) for _ in range(400)]
    assert sum(audit.epsilon > 0 for audit in audits) <= 0.05 * 400 + 3 * math.sqrt(0.05 * 0.95 * 400)


def test_a_plain_leak_gives_a_large_one_and_order_decides_nothing() -> None:
    rng = np.random.default_rng(1)
    is_in = rng.random(500) < 0.5
    scores = rng.normal(size=500) + 4 * is_in
    audit = audit_one_run(scores, is_in)
    assert 2 < audit.epsilon < 6 and audit.right <= audit.guesses <= audit.canaries == 500
    turn = rng.permutation(500)
    assert audit_one_run(scores[turn], is_in[turn]) == audit
    assert audit_one_run(np.exp(scores / 3), is_in) == audit


def test_counts_at_odds_are_refused() -> None:
    with pytest.raises(ValueError, match="does not hold"):
        bound_epsilon(10, 20, 5)
    with pytest.raises(ValueError, match="at least two"):
        audit_one_run(np.zeros(1), np.ones(1, bool))
