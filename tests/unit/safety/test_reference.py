"""The attacks with shadow models, held against the papers' formulas written out record by record."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm
from scipy.stats import t as student

from sctool.domain.membership import Population, Shadows, Signals
from sctool.safety.base import score_base
from sctool.safety.bavaria import VariancePrior, calibrate_bavaria, fit_prior, log_predictive
from sctool.safety.lira import calibrate_offline, calibrate_online, pool_deviation
from sctool.safety.reference import log_probability, select
from sctool.safety.rmia import OFFLINE_FACTORS, calibrate_rmia, choose_factor
from sctool.safety.statistics import margin

CLASSES = 3


def make_signals(seed: int, *, count: int, shadows: int, queries: int = 2, leak: float = 1.5) -> Signals:
    rng = np.random.default_rng(seed)
    labels, flags = rng.integers(0, CLASSES, count), np.arange(count) % 2 == 0
    ease = rng.normal(1, 2, count)
    logits = rng.normal(0, 1, (count, queries, CLASSES))
    logits[np.arange(count), :, labels] += (ease + leak * flags)[:, None]
    is_in = rng.permuted(np.arange(shadows)[:, None].repeat(count, 1) % 2 == 0, axis=0)
    margins = ease[:, None] + leak * is_in[:, :, None] + rng.normal(0, 1, (shadows, count, queries))
    population = Population(rng.normal(0, 2, 50), rng.normal(0, 2, (shadows, 50)))
    return Signals(logits.astype(np.float32), labels, flags, shadows=Shadows(margins, is_in), population=population)


def target_margin(signals: Signals, n: int, q: int) -> float:
    """logit_y - log sum_{i != y} exp(logit_i), in plain floats."""
    logits, label = signals.logits[n, q].astype(float), int(signals.labels[n])
    return float(logits[label] - math.log(sum(math.exp(v) for i, v in enumerate(logits) if i != label)))


def margins_of(signals: Signals, n: int, q: int, *, inside: bool) -> list[float]:
    assert signals.shadows is not None
    return [
        float(signals.shadows.margins[s, n, q])
        for s in range(len(signals.shadows.is_in))
        if signals.shadows.is_in[s, n] == inside
    ]


def naive_pooled(signals: Signals, q: int, *, inside: bool) -> float:
    total, freedom = 0.0, 0
    for n in range(len(signals)):
        values = margins_of(signals, n, q, inside=inside)
        total += sum((value - statistics.median(values)) ** 2 for value in values)
        freedom += len(values) - 1
    return math.sqrt(total / freedom)


def naive_lira(signals: Signals, other: Signals, n: int, *, online: bool, per_record: bool) -> float:
    total = 0.0
    for q in range(signals.logits.shape[1]):
        at, found = target_margin(other, n, q), {}
        for inside in (True, False):
            values = margins_of(other, n, q, inside=inside)
            deviation = statistics.pstdev(values) if per_record else naive_pooled(signals, q, inside=inside)
            found[inside] = statistics.median(values), deviation
        if online:
            total += norm.logpdf(at, *found[True]) - norm.logpdf(at, *found[False])
        else:
            total += math.log(norm.cdf(at, *found[False]))
    return total / signals.logits.shape[1]


@pytest.mark.parametrize("online", [True, False])
@pytest.mark.parametrize("shadows", [8, 128])
def test_lira_is_the_papers(online: bool, shadows: int) -> None:
    fit, other = make_signals(1, count=12, shadows=shadows), make_signals(2, count=10, shadows=shadows)
    found = (calibrate_online if online else calibrate_offline)(fit)(other)
    expected = [naive_lira(fit, other, n, online=online, per_record=shadows == 128) for n in range(10)]
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


def test_lira_needs_two_models_a_side() -> None:
    signals = make_signals(1, count=6, shadows=2)
    with pytest.raises(ValueError, match="at least two"):
        calibrate_online(signals)(signals)
    none = Signals(signals.logits, signals.labels, signals.is_member)
    with pytest.raises(ValueError, match="needs shadow models"):
        calibrate_online(none)


def test_the_pooled_deviation_forgets_how_records_differ() -> None:
    """Margins of all records together spread by 5; around their own median by 1."""
    rng = np.random.default_rng(0)
    margins = rng.normal(0, 1, (8, 4000, 1)) + rng.normal(0, 5, (1, 4000, 1))
    assert pool_deviation(margins)[0] == pytest.approx(1.0, abs=0.06)


def naive_rmia(signals: Signals, n: int, factor: float) -> float:
    def ratio(p: float, others: list[float]) -> float:
        return p / (((1 + factor) * (sum(others) / len(others)) + (1 - factor)) / 2)

    def probability(value: float) -> float:
        return 1 / (1 + math.exp(-value))

    population = signals.population
    assert population is not None
    outside = [probability(v) for v in margins_of(signals, n, 0, inside=False)]
    own = ratio(probability(target_margin(signals, n, 0)), outside)
    beaten = sum(
        own / ratio(probability(float(m)), [probability(float(v)) for v in s]) > 1
        for m, s in zip(population.margins, population.shadow_margins.T, strict=True)
    )
    return (beaten + 1 / (1 + 1 / own)) / (len(population.margins) + 1)


def test_rmia_is_the_papers() -> None:
    fit, other = make_signals(1, count=30, shadows=8), make_signals(2, count=12, shadows=8)
    factor = choose_factor(fit)
    assert factor in OFFLINE_FACTORS
    found = calibrate_rmia(fit)(other)
    np.testing.assert_allclose(found, [naive_rmia(other, n, factor) for n in range(12)], rtol=1e-6)


def test_base_is_the_papers() -> None:
    signals = make_signals(3, count=12, shadows=6)
    expected = []
    for n in range(12):
        outside = [1 / (1 + math.exp(-v)) for v in margins_of(signals, n, 0, inside=False)]
        expected.append(math.log(1 / (1 + math.exp(-target_margin(signals, n, 0)))) - math.log(np.mean(outside)))
    np.testing.assert_allclose(score_base(signals), expected, rtol=1e-6)


def naive_bavaria(fit: Signals, other: Signals, n: int) -> float:
    total = 0.0
    for q in range(other.logits.shape[1]):
        for inside, sign in ((True, 1), (False, -1)):
            chosen = select(fit.shadows, inside=inside) if fit.shadows else np.zeros((0, 0, 0))
            prior = fit_prior(chosen[:, :, [q]])
            values = margins_of(other, n, q, inside=inside)
            freedom, variance = float(prior.freedom[0]), float(prior.variance[0])
            mean = sum(values) / len(values)
            after = freedom + len(values) - 1
            spread = (freedom * variance + sum((value - mean) ** 2 for value in values)) / after
            scale = math.sqrt(spread * (1 + 1 / len(values)))
            total += sign * student.logpdf((target_margin(other, n, q) - mean) / scale, after) - sign * math.log(scale)
    return total / other.logits.shape[1]


def test_bavaria_is_a_ratio_of_predictive_densities() -> None:
    fit, other = make_signals(1, count=40, shadows=8), make_signals(2, count=10, shadows=8)
    expected = [naive_bavaria(fit, other, n) for n in range(10)]
    np.testing.assert_allclose(calibrate_bavaria(fit)(other), expected, rtol=1e-6, atol=1e-6)


def test_bavaria_finds_the_prior_that_variances_were_drawn_from() -> None:
    rng = np.random.default_rng(0)
    freedom, variance = 8.0, 2.5
    variances = variance * freedom / rng.chisquare(freedom, 20_000)
    margins = rng.normal(0, 3, (1, 20_000, 1)) + rng.normal(0, 1, (4, 20_000, 1)) * np.sqrt(variances)[:, None]
    prior = fit_prior(margins)
    assert prior.freedom[0] == pytest.approx(freedom, rel=0.1)
    assert prior.variance[0] == pytest.approx(variance, rel=0.05)
    alike = fit_prior(rng.normal(0, 1, (4, 20_000, 1)))
    assert alike.freedom[0] > 200 and alike.variance[0] == pytest.approx(1.0, rel=0.05)


def test_bavarias_density_is_students_by_numerical_integration() -> None:
    """The predictive density, with the variance integrated out on a grid."""
    values, at = np.array([0.3, -0.4, 1.1]), 0.9
    prior = VariancePrior(np.array([5.0]), np.array([1.7]))
    variances = np.exp(np.linspace(-8, 8, 4001))
    weights = variances ** (-prior.freedom[0] / 2 - 1) * np.exp(-prior.freedom[0] * prior.variance[0] / 2 / variances)
    squares = ((values - values.mean()) ** 2).sum()
    weights *= variances ** (-(len(values) - 1) / 2) * np.exp(-squares / 2 / variances) * variances  # dv = v dlog v
    density = norm.pdf(at, values.mean(), np.sqrt(variances * (1 + 1 / len(values))))
    expected = (weights * density).sum() / weights.sum()
    found = log_predictive(np.array([[at]]), values[:, None, None], prior)
    assert found[0, 0] == pytest.approx(math.log(expected), abs=1e-6)


@given(st.floats(-700, 700))
def test_the_log_probability_keeps_its_precision(value: float) -> None:
    assert log_probability(np.array([value]))[0] == pytest.approx(
        -math.log1p(math.exp(-value)) if value > -30 else value - math.exp(value), rel=1e-12, abs=1e-300
    )


def test_the_margin_stays_finite_where_the_probability_is_one() -> None:
    logits = np.array([[200.0, 0.0, 0.0], [-200.0, 0.0, 0.0]])
    np.testing.assert_allclose(margin(logits, np.array([0, 0])), [200 - math.log(2), -200 - math.log(2)], rtol=1e-12)


def test_a_record_that_was_in_all_models_is_named() -> None:
    with pytest.raises(ValueError, match="out of no shadow"):
        select(Shadows(np.zeros((2, 3, 1)), np.array([[True, False, True], [True, True, False]])), inside=False)
