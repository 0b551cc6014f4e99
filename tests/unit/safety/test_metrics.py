"""The figures of an attack against naive oracles, scikit-learn and simulation."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import binomtest, norm
from sklearn.metrics import roc_auc_score

from sctool.safety import metrics
from sctool.safety.threshold import best_threshold

Arrays = tuple[NDArray[np.float64], NDArray[np.bool_]]


@st.composite
def scored(draw: st.DrawFn) -> Arrays:
    """Scores with many ties, and flags of both kinds."""
    size = draw(st.integers(2, 60))
    scores = draw(st.lists(st.integers(-5, 5), min_size=size, max_size=size))
    flags = draw(st.lists(st.booleans(), min_size=size, max_size=size).filter(lambda f: 0 < sum(f) < len(f)))
    return np.array(scores, np.float64) / 3, np.array(flags)


@given(scored())
def test_auc_is_scikit_learns(case: Arrays) -> None:
    scores, flags = case
    figure = metrics.auc(scores, flags)
    assert figure.value == pytest.approx(roc_auc_score(flags, scores))
    assert 0 <= figure.low <= figure.value <= figure.high <= 1


@given(scored())
def test_auc_ignores_monotone_changes_and_mirrors(case: Arrays) -> None:
    scores, flags = case
    figure = metrics.auc(scores, flags)
    assert metrics.auc(np.exp(scores), flags).value == pytest.approx(figure.value)
    assert metrics.auc(-scores, flags).value == pytest.approx(1 - figure.value)


@given(scored(), st.sampled_from([0.1, 0.25, 0.5]))
def test_tpr_at_fpr_against_every_threshold(case: Arrays, limit: float) -> None:
    scores, flags = case
    figure = metrics.tpr_at_fpr(scores, flags, limit)
    if (~flags).sum() * limit < 1 - 1e-9:
        assert figure is None
        return
    reachable = [
        (scores[flags] >= threshold).mean()
        for threshold in [*scores, np.inf]
        if (scores[~flags] >= threshold).mean() <= limit + 1e-12
    ]
    assert figure is not None
    assert figure.value == pytest.approx(max(reachable))


def test_tpr_is_withheld_where_one_record_is_more_than_the_limit() -> None:
    flags = np.repeat([True, False], 99)
    assert metrics.tpr_at_fpr(np.arange(198.0), flags, 0.01) is None
    flags = np.repeat([True, False], 100)
    assert metrics.tpr_at_fpr(np.arange(200.0), flags, 0.01) is not None


@given(scored())
def test_roc_runs_from_corner_to_corner_and_matches_thresholds(case: Arrays) -> None:
    scores, flags = case
    fpr, tpr = metrics.roc(scores, flags)
    assert (fpr[0], tpr[0], fpr[-1], tpr[-1]) == (0, 0, 1, 1)
    assert (np.diff(fpr) >= 0).all() and (np.diff(tpr) >= 0).all()
    naive = {((scores[~flags] >= t).mean(), (scores[flags] >= t).mean()) for t in scores} | {(0.0, 0.0)}
    assert {(round(a, 12), round(b, 12)) for a, b in zip(fpr, tpr, strict=True)} == {
        (round(a, 12), round(b, 12)) for a, b in naive
    }


@given(st.integers(1, 200), st.data())
def test_proportion_is_clopper_pearson(trials: int, data: st.DataObject) -> None:
    successes = data.draw(st.integers(0, trials))
    figure = metrics.proportion(successes, trials)
    exact = binomtest(successes, trials).proportion_ci(0.95, method="exact")
    assert (figure.low, figure.high) == (pytest.approx(exact.low), pytest.approx(exact.high))


def _covers(rng: np.random.Generator, size: int, shift: float, sims: int) -> tuple[float, float]:
    """Shares of simulations whose AUC and balanced-accuracy intervals hold the true values."""
    true_auc, true_ba = float(norm.cdf(shift / np.sqrt(2))), float(norm.cdf(shift / 2))
    flags = np.repeat([True, False], size)
    hits = np.zeros(2)
    for _ in range(sims):
        scores = np.concatenate([rng.normal(shift, 1, size), rng.normal(0, 1, size)])
        area, right = metrics.auc(scores, flags), metrics.balanced_accuracy(scores >= shift / 2, flags)
        hits += [area.low <= true_auc <= area.high, right.low <= true_ba <= right.high]
    return float(hits[0] / sims), float(hits[1] / sims)


@pytest.mark.parametrize("shift", [0.0, 0.7, 2.0])
def test_intervals_cover_what_they_promise(shift: float) -> None:
    by_auc, by_ba = _covers(np.random.default_rng(7), 100, shift, 400)
    assert 0.92 <= by_auc <= 0.985  # 95 % within three standard errors of 400 simulations
    assert 0.92 <= by_ba <= 1.0  # Clopper-Pearson is conservative by design


def test_perfect_separation_keeps_an_interval() -> None:
    figure = metrics.auc(np.array([1.0] * 30 + [0.0] * 30), np.repeat([True, False], 30))
    assert (figure.value, figure.low, figure.high) == (1.0, pytest.approx(0.9), 1.0)


@pytest.mark.parametrize("flags", [[True, True], [False, False]])
def test_one_kind_alone_is_refused(flags: list[bool]) -> None:
    with pytest.raises(ValueError, match="both members and non-members"):
        metrics.auc(np.zeros(2), np.array(flags))


def test_nan_scores_are_refused() -> None:
    with pytest.raises(ValueError, match="NaN"):
        metrics.roc(np.array([0.0, np.nan]), np.array([True, False]))


@given(scored())
def test_best_threshold_is_the_first_best_of_all(case: Arrays) -> None:
    values, flags = case
    ordered = [*values[flags], *values[~flags]]
    m, n = int(flags.sum()), int((~flags).sum())
    quality = [int((values[flags] >= t).sum()) * n + int((values[~flags] < t).sum()) * m for t in ordered]
    found = best_threshold(values, flags)
    assert found == ordered[quality.index(max(quality))]


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 5), st.integers(1, 5), st.data())
def test_chance_of_a_tpr_is_counted_over_all_orders(members: int, others: int, data: st.DataObject) -> None:
    """The p-value is the share of all assignments of membership to the ranks whose TPR is at least as large."""
    limit = data.draw(st.sampled_from([0.2, 0.34, 0.5, 1.0]))
    if others * limit < 1 - 1e-9:
        return
    scores = np.arange(members + others, dtype=np.float64)
    flags = np.zeros(members + others, bool)
    flags[data.draw(st.permutations(range(members + others)))[:members]] = True
    observed = metrics.tpr_at_fpr(scores, flags, limit)
    assert observed is not None
    assignments = list(itertools.combinations(range(members + others), members))
    as_large = 0
    for chosen in assignments:
        other = np.zeros(members + others, bool)
        other[list(chosen)] = True
        found = metrics.tpr_at_fpr(scores, other, limit)
        as_large += found is not None and found.value >= observed.value - 1e-12
    assert metrics.tpr_p_value(scores, flags, limit) == pytest.approx(as_large / len(assignments))


@given(st.integers(1, 6), st.integers(1, 6), st.data())
def test_chance_of_an_accuracy_is_counted_over_all_assignments(members: int, others: int, data: st.DataObject) -> None:
    size = members + others
    predicted = np.array(data.draw(st.lists(st.booleans(), min_size=size, max_size=size)))
    flags = np.zeros(size, bool)
    flags[data.draw(st.permutations(range(size)))[:members]] = True
    assignments = list(itertools.combinations(range(size), members))
    as_large = sum(predicted[list(chosen)].sum() >= predicted[flags].sum() for chosen in assignments)
    assert metrics.accuracy_p_value(predicted, flags) == pytest.approx(as_large / len(assignments))


def test_p_values_of_nothing_are_even() -> None:
    """Over 600 audits without a leak each p-value is under 0.05 in about one of twenty."""
    rng = np.random.default_rng(0)
    flags = np.repeat([True, False], 150)
    under = np.zeros(3)
    for _ in range(600):
        scores = rng.normal(size=300)
        found = metrics.tpr_p_value(scores, flags, 0.01)
        assert found is not None
        values = [metrics.auc_p_value(scores, flags), metrics.accuracy_p_value(scores > 0, flags), found]
        under += np.array(values) < 0.05
    assert (under <= 600 * 0.05 + 3 * np.sqrt(600 * 0.05 * 0.95)).all()
    assert under[0] >= 600 * 0.05 - 3 * np.sqrt(600 * 0.05 * 0.95)
    assert metrics.auc_p_value(np.zeros(300), flags) == 1.0
