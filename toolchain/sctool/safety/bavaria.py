"""BaVarIA: LiRA with a prior on the variance, best with few shadow models (arXiv 2603.11799).

Each record's margins are normal with their own mean and variance; the variance has an inverse-gamma prior, so that the
predictive density is Student's t. The prior is fitted to all records by the moments of their log variances (Smyth 2004,
section 6.2): as strong as the records' variances are alike.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import digamma, polygamma
from scipy.stats import t as student

from sctool.safety.reference import compare_sides

Values = NDArray[np.float64]
STRONGEST = 1e6
"""Degrees of freedom of a prior that makes all variances one."""
TINY = 1e-30


@dataclass(frozen=True)
class VariancePrior:
    """`freedom` degrees of freedom around `variance`, each [Q]."""

    freedom: Values
    variance: Values


def fit_prior(margins: Values) -> VariancePrior:
    """margins [S, N, Q], NaN where a model does not count; ValueError where no record has two."""
    freedoms, variances = [], []
    for q in range(margins.shape[2]):
        each = margins[:, :, q]
        freedom = np.isfinite(each).sum(axis=0) - 1
        if not (freedom > 0).any():
            raise ValueError("BaVarIA needs at least two shadow models with and two without a record")
        kept = each[:, freedom > 0]
        strength, variance = _match_moments(np.maximum(np.nanvar(kept, axis=0, ddof=1), TINY), freedom[freedom > 0])
        freedoms.append(strength)
        variances.append(variance)
    return VariancePrior(np.array(freedoms), np.array(variances))


def log_predictive(at: Values, margins: Values, prior: VariancePrior) -> Values:
    """at [N, Q], margins [S, N, Q] with NaN -> log density [N, Q] of one more margin of the same record."""
    count = np.isfinite(margins).sum(axis=0)
    centre = np.nanmean(margins, axis=0)
    squares = np.nansum((margins - centre) ** 2, axis=0)
    freedom = prior.freedom + count - 1
    variance = np.maximum((prior.freedom * prior.variance + squares) / freedom, TINY)
    return np.asarray(student.logpdf(at, freedom, centre, np.sqrt(variance * (1 + 1 / count))))


def _match_moments(variances: Values, freedom: NDArray[np.int64]) -> tuple[float, float]:
    """(d0, s0^2) of s^2 ~ s0^2 F(freedom, d0), from the mean and the spread of log s^2."""
    half = freedom / 2
    logs = np.log(variances) - digamma(half) + np.log(half)
    excess = float(logs.var(ddof=1) - polygamma(1, half).mean()) if len(logs) > 1 else 0.0
    low, high = 1e-3, STRONGEST / 2
    if excess <= polygamma(1, high):
        return STRONGEST, float(np.exp(logs.mean()))
    if excess >= polygamma(1, low):
        strength = low
    else:
        strength = float(brentq(lambda value: float(polygamma(1, value)) - excess, low, high))
    return 2 * strength, float(np.exp(logs.mean() + digamma(strength) - np.log(strength)))


calibrate_bavaria = compare_sides(fit_prior, log_predictive)
"""log predictive density of the margin with the record - that without it."""
