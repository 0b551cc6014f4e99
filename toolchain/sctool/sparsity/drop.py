"""Drop criteria: which of the existing weights go. Each returns a float score [*weight.shape]; the lowest go first."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def drop_magnitude(weight: Tensor, gradient: Tensor, count: int) -> Tensor:
    """|w|: the smallest go (SET, Mocanu et al. 2018; RigL)."""
    return weight.abs()


def drop_set(weight: Tensor, gradient: Tensor, count: int) -> Tensor:
    """SET sign-wise: the smallest positive and the largest negative weights go, each sign losing its share."""
    score = torch.full_like(weight, torch.inf)
    for sign in (1.0, -1.0):
        chosen = (weight * sign > 0) if sign > 0 else (weight <= 0)
        ranks = weight[chosen].abs().argsort(stable=True).argsort(stable=True).to(weight.dtype)
        score[chosen] = ranks / max(int(chosen.sum()), 1)
    return score


def drop_taylor(weight: Tensor, gradient: Tensor, count: int) -> Tensor:
    """|w * dL/dw|: first-order change of the loss when the weight goes (Molchanov et al. 2017)."""
    return (weight * gradient).abs()


DropCriterion = Callable[[Tensor, Tensor, int], Tensor]
DROPS: dict[str, DropCriterion] = {"magnitude": drop_magnitude, "set": drop_set, "taylor": drop_taylor}
