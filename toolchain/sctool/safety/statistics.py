"""Black-box statistics of a record, from logits [N, C] and labels [N]: float64 [N], higher = more like a member."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax, logsumexp

Logits = NDArray[np.floating]
Labels = NDArray[np.int64]
Values = NDArray[np.float64]
TINY = 1e-30


def confidence(logits: Logits, labels: Labels) -> Values:
    """Probability of the label."""
    return np.asarray(np.exp(_log_probability(logits)[np.arange(len(labels)), labels]))


def negative_loss(logits: Logits, labels: Labels) -> Values:
    """Log-probability of the label: minus the cross-entropy (Yeom et al. 2018)."""
    return np.asarray(_log_probability(logits)[np.arange(len(labels)), labels])


def negative_entropy(logits: Logits, labels: Labels) -> Values:
    """Minus the entropy of the prediction; the label is not used."""
    log_p = _log_probability(logits)
    return np.asarray((np.exp(log_p) * np.maximum(log_p, np.log(TINY))).sum(axis=1))


def negative_modified_entropy(logits: Logits, labels: Labels) -> Values:
    """-((1 - p_y)(-log p_y) + sum_{i != y} p_i (-log(1 - p_i))), clamped at 1e-30 (Song & Mittal 2021, equation 8)."""
    p = np.exp(_log_probability(logits))
    rows = np.arange(len(labels))
    log_p, log_rest = np.log(np.maximum(p, TINY)), np.log(np.maximum(1 - p, TINY))
    terms = -p * log_rest
    terms[rows, labels] = -(1 - p[rows, labels]) * log_p[rows, labels]
    return np.asarray(-terms.sum(axis=1))


def correctness(logits: Logits, labels: Labels) -> Values:
    """1 where the prediction is right, else 0 (the gap attack)."""
    return np.asarray(logits.argmax(axis=1) == labels, dtype=np.float64)


def margin(logits: Logits, labels: Labels) -> Values:
    """log p_y - log(1 - p_y): the logit of the label over the log-sum-exp of the others (Carlini et al. 2022,
    section VI-A), which keeps its precision where p_y rounds to 1. In it p_y = 1 / (1 + exp(-margin))."""
    rows = np.arange(len(labels))
    values = logits.astype(np.float64)
    own = values[rows, labels].copy()
    values[rows, labels] = -np.inf
    return np.asarray(own - logsumexp(values, axis=1))


def _log_probability(logits: Logits) -> Values:
    return np.asarray(log_softmax(logits.astype(np.float64), axis=1))
