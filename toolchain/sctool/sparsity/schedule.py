"""When and how much the topology changes, and the learning rate of every step."""

from __future__ import annotations

import math
from collections.abc import Callable

FINAL_RATE = 0.01
"""Where the cosine ends, as a share of the initial learning rate."""


def _cosine(share: float) -> float:
    return (1 + math.cos(math.pi * share)) / 2


DECAYS: dict[str, Callable[[float], float]] = {
    "cosine": _cosine,
    "linear": lambda share: 1 - share,
    "constant": lambda share: 1.0,
}
"""Name -> factor of the drop fraction after `share` of the rounds (RigL, equation 1, is the cosine)."""


def drop_fraction_at(round_index: int, rounds: int, initial: float, decay: str = "cosine") -> float:
    """The share of existing weights that round `round_index`, counted from 0, drops."""
    return initial * DECAYS[decay](round_index / rounds)


RATES: dict[str, Callable[[float], float]] = {
    "cosine": lambda share: FINAL_RATE + (1 - FINAL_RATE) * _cosine(share),
    "step": lambda share: 1.0 if share < 0.5 else (0.1 if share < 0.75 else 0.01),
    "constant": lambda share: 1.0,
}
"""Name -> factor of the learning rate after `share` of all steps; "step" is that of the authors' code."""


def learning_rate_at(step: int, total: int, initial: float, schedule: str = "cosine") -> float:
    """The rate of step `step`, counted from 0; every candidate of a round is at its parent's step."""
    return initial * RATES[schedule](min(step, total) / max(total, 1))


def extra_share_at(round_index: int, rounds: int) -> float:
    """What gradual magnitude pruning still keeps, after round `round_index`, of the weights that are to go.

    (1 - t)^3 with t the share of rounds done: 1 before the first, 0 after the last (Zhu & Gupta 2017, equation 1).
    """
    return float((1 - min((round_index + 1) / rounds, 1.0)) ** 3)
