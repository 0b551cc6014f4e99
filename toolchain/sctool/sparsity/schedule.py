"""When and how much the topology changes, and the learning rate of every step."""

from __future__ import annotations

import math


def drop_fraction_at(round_index: int, rounds: int, initial: float) -> float:
    """Cosine decay from `initial` in round 0 towards 0 after the last round (RigL, equation 1)."""
    return initial / 2 * (1 + math.cos(math.pi * round_index / rounds))


def learning_rate_at(step: int, total: int, initial: float) -> float:
    """Cosine decay from `initial` to 1 % of it; every candidate of a round uses its parent's step."""
    return initial * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(step, total) / max(total, 1))))
