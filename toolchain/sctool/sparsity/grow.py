"""Grow criteria: which absent positions come back. Each returns a float score [*weight.shape]; the highest come."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def grow_random(gradient: Tensor, momentum: Tensor, generator: torch.Generator) -> Tensor:
    """Uniformly at random (SET, Mocanu et al. 2018)."""
    return torch.rand(gradient.shape, generator=generator)


def grow_gradient(gradient: Tensor, momentum: Tensor, generator: torch.Generator) -> Tensor:
    """Largest |dL/dw| of the dense gradient (RigL, Evci et al., ICML 2020)."""
    return gradient.abs()


def grow_momentum(gradient: Tensor, momentum: Tensor, generator: torch.Generator) -> Tensor:
    """Largest |momentum| of the dense gradient (Dettmers & Zettlemoyer 2019)."""
    return momentum.abs()


GrowCriterion = Callable[[Tensor, Tensor, torch.Generator], Tensor]
GROWS: dict[str, GrowCriterion] = {"random": grow_random, "gradient": grow_gradient, "momentum": grow_momentum}
