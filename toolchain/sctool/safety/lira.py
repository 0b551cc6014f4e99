"""LiRA, the likelihood-ratio attack (Carlini et al., "Membership Inference Attacks From First Principles", S&P 2022).

Margins of a record are taken to be normal over shadow models, around a median. With fewer than PER_RECORD shadow models
on a side the variance is pooled: of the residuals around each record's own median, with the degrees of freedom that the
medians leave. The authors' code pools the margins themselves, which adds the spread between records.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from sctool.domain.membership import Signals
from sctool.safety.reference import Score, compare_sides, select, shadows_of, target_margins

PER_RECORD = 64
TINY = 1e-30
Values = NDArray[np.float64]


def calibrate_offline(signals: Signals) -> Score:
    """log P(a model without the record has a smaller margin), one-sided (section VI-B); mean over queries."""
    outside = pool_deviation(select(shadows_of(signals), inside=False))

    def score(other: Signals) -> Values:
        margins = select(shadows_of(other), inside=False)
        centre, deviation = np.nanmedian(margins, axis=0), _deviations(margins, outside)
        return np.asarray(np.mean(norm.logcdf(target_margins(other), centre, deviation), axis=1))

    return score


def pool_deviation(margins: Values) -> Values:
    """margins [S, N, Q] with NaN -> [Q]: root mean square around each record's median; NaN with one model a record."""
    residuals = margins - np.nanmedian(margins, axis=0)
    freedom = (np.isfinite(margins).sum(axis=0) - 1).sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.sqrt(np.nansum(residuals**2, axis=(0, 1)) / freedom))


def _deviations(margins: Values, pooled: Values) -> Values:
    """[N, Q]: of each record where it has shadow models enough, else the pooled one."""
    if not np.isfinite(pooled).all():
        raise ValueError("LiRA needs at least two shadow models with and two without each record")
    enough = np.isfinite(margins).sum(axis=0) >= PER_RECORD
    return np.maximum(np.where(enough, np.nanstd(margins, axis=0), pooled), TINY)


def _log_density(at: Values, margins: Values, pooled: Values) -> Values:
    return np.asarray(norm.logpdf(at, np.nanmedian(margins, axis=0), _deviations(margins, pooled)))


calibrate_online = compare_sides(pool_deviation, _log_density)
"""log density of the margin among shadow models trained with the record - that without it (section VI-A)."""
