"""The quantile-regression attack: one model, no shadow models (Bertran et al., NeurIPS 2023, "Scalable Membership
Inference Attacks via Quantile Regression").

Regressors learn from non-members how large the margin of a record like this would be had the model never seen it: its
median and a spread. The score is how far above that it lies.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sctool.domain.membership import Signals
from sctool.safety.attack import Need
from sctool.safety.reference import target_margins
from sctool.safety.threshold import best_threshold

Values = NDArray[np.float64]
COMPONENTS = 32
UPPER = 0.84
"""The normal distribution's quantile at one standard deviation."""


@dataclass(frozen=True)
class FittedQuantile:
    """Regressors of the median and of the upper quantile; `least`: the smallest spread that counts."""

    median: Any
    upper: Any
    least: float
    threshold: float

    def score(self, signals: Signals) -> Values:
        inputs = _inputs(signals)
        centre = self.median.predict(inputs)
        spread = np.maximum(self.upper.predict(inputs) - centre, self.least)
        return np.asarray((target_margins(signals)[:, 0] - centre) / spread)


@dataclass(frozen=True)
class QuantileAttack:
    """Gradient-boosted trees on the record's first principal components and its label."""

    name: str = "quantile"
    threat_model: str = (
        "Sees the model's outputs, the records and the labels; knows some records that were not trained on."
    )
    needs: frozenset[Need] = frozenset({"records"})
    seeded: bool = True

    def fit(self, signals: Signals, seed: int) -> FittedQuantile:
        outside = signals.take(~signals.is_member)
        inputs, margins = _inputs(outside), target_margins(outside)[:, 0]
        median = _make_regressor(0.5, inputs, seed).fit(inputs, margins)
        upper = _make_regressor(UPPER, inputs, seed).fit(inputs, margins)
        fitted = FittedQuantile(median, upper, 0.1 * float(margins.std()) + 1e-9, 0.0)
        return FittedQuantile(median, upper, fitted.least, best_threshold(fitted.score(signals), signals.is_member))


def _inputs(signals: Signals) -> Values:
    """[N, F + C]: the record and its label, one-hot."""
    if signals.records is None:
        raise ValueError("the quantile attack needs the records")
    label = np.eye(signals.logits.shape[2])[signals.labels]
    return np.concatenate([signals.records.astype(np.float64), label], axis=1)


def _make_regressor(quantile: float, inputs: Values, seed: int) -> Any:
    from sklearn.decomposition import PCA
    from sklearn.ensemble import GradientBoostingRegressor
    from sklearn.pipeline import make_pipeline

    components = min(COMPONENTS, *inputs.shape)
    trees = GradientBoostingRegressor(
        loss="quantile", alpha=quantile, n_estimators=60, max_depth=3, min_samples_leaf=10, subsample=0.7,
        random_state=seed,
    )  # fmt: skip
    return make_pipeline(
        PCA(components, svd_solver="covariance_eigh" if inputs.shape[1] < 2000 else "auto", random_state=seed), trees
    )
