"""BASE: how much likelier the label is under this model than under models without the record, on average (Lassila et
al., arXiv 2505.24089), offline: log p_target - log mean_k p_k."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sctool.domain.membership import Signals
from sctool.safety.reference import Score, log_probability, select, shadows_of, target_margins
from sctool.safety.rmia import mean_log_probability


def calibrate_base(signals: Signals) -> Score:
    """Nothing to calibrate: the score of a record rests on its own margins alone."""
    return score_base


def score_base(signals: Signals) -> NDArray[np.float64]:
    outside = select(shadows_of(signals), inside=False)[:, :, 0]
    return np.asarray(log_probability(target_margins(signals)[:, 0]) - mean_log_probability(outside))
