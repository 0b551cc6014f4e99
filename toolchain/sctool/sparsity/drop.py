"""Drop criteria: which of the existing weights (mask True) go. Each returns a float score [*weight.shape]; the lowest
go first, and scores outside the mask do not matter."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def drop_magnitude(weight: Tensor, gradient: Tensor, mask: Tensor) -> Tensor:
    """|w|: the smallest go (SET, Mocanu et al. 2018; RigL)."""
    return weight.abs()


def drop_set(weight: Tensor, gradient: Tensor, mask: Tensor) -> Tensor:
    """SET sign-wise: the smallest positive and the largest negative weights go, each sign losing its share."""
    score = torch.full_like(weight, torch.inf)
    for sign in (1.0, -1.0):
        chosen = mask & ((weight > 0) if sign > 0 else (weight <= 0))
        ranks = weight[chosen].abs().argsort(stable=True).argsort(stable=True).to(weight.dtype)
        score[chosen] = ranks / max(int(chosen.sum()), 1)
    return score


def drop_taylor(weight: Tensor, gradient: Tensor, mask: Tensor) -> Tensor:
    """|w * dL/dw|: first-order change of the loss when the weight goes (Molchanov et al. 2017)."""
    return (weight * gradient).abs()


DropCriterion = Callable[[Tensor, Tensor, Tensor], Tensor]
DROPS: dict[str, DropCriterion] = {"magnitude": drop_magnitude, "set": drop_set, "taylor": drop_taylor}
