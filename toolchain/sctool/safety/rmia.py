"""RMIA: is the record likelier under this model than records of the population are? (Zarifzadeh, Liu & Shokri, ICML
2024, "Low-Cost High-Power Membership Inference Attacks"), offline: no shadow model needs the record."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logsumexp

from sctool.domain.membership import Population, Signals
from sctool.safety.metrics import auc
from sctool.safety.reference import Score, log_probability, select, shadows_of, target_margins

Values = NDArray[np.float64]
GAMMA = 1.0
"""A record beats one of the population where its ratio is so many times the other's."""
OFFLINE_FACTORS = tuple(round(0.1 * k, 1) for k in range(11))


def calibrate_rmia(signals: Signals) -> Score:
    """Share of the population that the record beats; the offline factor is chosen on a shadow model in the target's
    place, never on the target."""
    factor = choose_factor(signals)

    def score(other: Signals) -> Values:
        log_p = log_probability(target_margins(other)[:, 0])
        log_out = mean_log_probability(select(shadows_of(other), inside=False)[:, :, 0])
        population = population_of(other)
        log_z, log_z_out = log_probability(population.margins), mean_log_probability(population.shadow_margins)
        return compare_ratios(log_p - log_prior(log_out, factor), log_z - log_prior(log_z_out, factor))

    return score


def population_of(signals: Signals) -> Population:
    """ValueError where there is none."""
    if signals.population is None:
        raise ValueError("this attack needs a population: records that no model was trained on")
    return signals.population


def mean_log_probability(margins: Values) -> Values:
    """margins [S, N], NaN where a model does not count -> log of the mean p_y over all that do, [N]."""
    finite = np.isfinite(margins)
    log_p = np.where(finite, log_probability(np.where(finite, margins, 0.0)), -np.inf)
    return np.asarray(logsumexp(log_p, axis=0) - np.log(finite.sum(axis=0)))


def log_prior(log_out: Values, factor: float) -> Values:
    """log Pr(x) = log(((1 + a) P_out + (1 - a)) / 2): what a model in general says, in-models included (equation 10)."""
    rest = np.log1p(-factor) if factor < 1 else -np.inf
    return np.asarray(np.logaddexp(np.log1p(factor) + log_out, rest) - np.log(2))


def compare_ratios(log_ratio: Values, population: Values) -> Values:
    """log_ratio [N], population [Z] -> share of the population beaten, in (0, 1]; the |Z| + 1 possible shares are told
    apart further by the ratio itself."""
    beaten = np.searchsorted(np.sort(population), log_ratio - np.log(GAMMA), side="left")
    return np.asarray((beaten + expit(log_ratio)) / (len(population) + 1))


def choose_factor(signals: Signals) -> float:
    """The offline factor with the largest AUC when each of up to four shadow models stands in for the target."""
    shadows, population = shadows_of(signals), population_of(signals)
    count = len(shadows.margins)
    aucs = np.zeros(len(OFFLINE_FACTORS))
    for stand_in in range(min(4, count)):
        others = [s for s in range(count) if s != stand_in]
        is_in = shadows.is_in[stand_in]
        usable = (~shadows.is_in[others]).any(axis=0)
        if not is_in[usable].any() or is_in[usable].all():
            continue
        outside = np.where(shadows.is_in[others], np.nan, shadows.margins[others, :, 0])[:, usable]
        log_p, log_out = log_probability(shadows.margins[stand_in, usable, 0]), mean_log_probability(outside)
        log_z = log_probability(population.shadow_margins[stand_in])
        log_z_out = mean_log_probability(population.shadow_margins[others])
        for k, factor in enumerate(OFFLINE_FACTORS):
            ratio = log_p - log_prior(log_out, factor)
            aucs[k] += auc(compare_ratios(ratio, log_z - log_prior(log_z_out, factor)), is_in[usable]).value
    return OFFLINE_FACTORS[int(np.argmax(aucs))]
