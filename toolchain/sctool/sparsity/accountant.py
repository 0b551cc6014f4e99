"""What DP-SGD with Poisson sampling costs: (epsilon, delta) by Renyi differential privacy of the sampled Gaussian.

Neighbours differ by one record added or removed. What is counted is `steps` noisy gradients and what is computed from
them alone; topology changes that look at unprotected gradients and the choice among candidates are not counted.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.optimize import brentq
from scipy.special import gammaln, gammasgn, log_ndtr, logsumexp

from sctool.errors import ConfigError

ORDERS = (
    *(1 + step / 10 for step in range(1, 100)),
    *map(float, (*range(11, 64), *range(64, 256, 8), *range(256, 2049, 64))),
)
_TERMS = 2000
_MIN_NOISE, _MAX_NOISE = 0.01, 1e4


def epsilon(noise_multiplier: float, sample_rate: float, steps: int, delta: float) -> float:
    """The smallest epsilon at `delta` over all orders; conversion: Canonne, Kamath, Steinke 2020, proposition 12."""
    _check(sample_rate, steps, delta)
    if steps == 0 or sample_rate == 0:
        return 0.0
    if not noise_multiplier >= _MIN_NOISE / 10:
        return math.inf
    found = (
        steps * renyi_divergence(noise_multiplier, sample_rate, a)
        + math.log1p(-1 / a)
        - (math.log(delta) + math.log(a)) / (a - 1)
        for a in ORDERS
    )
    return max(0.0, min(found))


def noise_for(epsilon_wanted: float, sample_rate: float, steps: int, delta: float) -> float:
    """The smallest noise multiplier from 0.01 on, to 1e-4 of itself, that costs at most `epsilon_wanted`."""
    _check(sample_rate, steps, delta)
    if steps == 0 or sample_rate == 0:
        return 0.0
    least = epsilon(_MAX_NOISE, sample_rate, steps, delta)
    if not epsilon_wanted > least:
        raise ConfigError(
            f"No noise brings epsilon down to {epsilon_wanted:g} (least: {least:.3g}).",
            hint="Raise epsilon or delta, or train for fewer steps.",
        )

    def excess(log_noise: float) -> float:
        return epsilon(math.exp(log_noise), sample_rate, steps, delta) - epsilon_wanted

    if epsilon(_MIN_NOISE, sample_rate, steps, delta) <= epsilon_wanted:
        return _MIN_NOISE
    root = brentq(excess, math.log(_MIN_NOISE), math.log(_MAX_NOISE), xtol=2e-5)
    while excess(root) > 0:
        root += 2e-5
    return math.exp(root)


def renyi_divergence(noise_multiplier: float, sample_rate: float, order: float) -> float:
    """Renyi divergence of `order` > 1 of one sampled Gaussian (Mironov, Talwar, Zhang 2019, section 3.3).

    The mean of ((1 - q) + q exp((2z - 1) / 2s^2))^order over z ~ N(0, s^2), with q the rate and s the noise, as two
    binomial series: one for each side of the z at which both terms are equal. They end at an integer order.
    """
    s, q = noise_multiplier, sample_rate
    if q == 1:
        return order / (2 * s * s)
    i = np.arange(int(order) + 1 if order == int(order) else _TERMS, dtype=np.float64)
    rest = order - i
    binomial = gammaln(order + 1) - gammaln(i + 1) - gammaln(rest + 1)
    border = s * s * (math.log1p(-q) - math.log(q)) + 0.5
    log_q, log_p = math.log(q), math.log1p(-q)
    below = i * log_q + rest * log_p + (i * i - i) / (2 * s * s) + log_ndtr((border - i) / s)
    above = rest * log_q + i * log_p + (rest * rest - rest) / (2 * s * s) + log_ndtr((rest - border) / s)
    terms, signs = binomial + np.logaddexp(below, above), gammasgn(rest + 1)
    total = logsumexp(terms, b=signs)
    return max(0.0, float(total)) / (order - 1)


def _check(sample_rate: float, steps: int, delta: float) -> None:
    if not (0 <= sample_rate <= 1 and steps >= 0 and 0 < delta < 1):
        raise ConfigError(
            f"No privacy cost for sample rate {sample_rate:g}, {steps} steps, delta {delta:g}.",
            hint="Expected: rate from 0 to 1, steps at least 0, delta between 0 and 1.",
        )
