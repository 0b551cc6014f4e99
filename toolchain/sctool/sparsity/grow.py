"""Grow criteria: which absent positions come back. Each returns a score [*weight.shape]; the highest come."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from sctool.sparsity.evidence import LayerEvidence


def grow_random(evidence: LayerEvidence, generator: torch.Generator) -> Tensor:
    """Uniformly at random (SET, Mocanu et al. 2018)."""
    return torch.rand(evidence.weight.shape, generator=generator)


def grow_gradient(evidence: LayerEvidence, generator: torch.Generator) -> Tensor:
    """Largest |dL/dw| of the dense gradient (RigL, Evci et al., ICML 2020)."""
    return evidence.gradient.abs()


def grow_momentum(evidence: LayerEvidence, generator: torch.Generator) -> Tensor:
    """Largest |momentum| of the dense gradient (Dettmers & Zettlemoyer 2019)."""
    return evidence.momentum.abs()


def grow_unfired(evidence: LayerEvidence, generator: torch.Generator) -> Tensor:
    """Positions that never held a weight first, at random; then the others (ITOP, Liu et al., ICML 2021)."""
    return torch.rand(evidence.weight.shape, generator=generator) + (~evidence.fired).float()


def grow_safety(evidence: LayerEvidence, generator: torch.Generator) -> Tensor:
    """Ours: positions whose gradient helps members and non-members alike.

    min(|g_members|, |g_non_members|) where both point the same way, else minus the larger: a weight that would serve
    the training records alone comes last.
    """
    members, others = evidence.member_gradient, evidence.non_member_gradient
    if members is None or others is None:
        raise ValueError("grow_safety needs member_gradient and non_member_gradient")
    agree = members.sign() == others.sign()
    return torch.where(agree, torch.minimum(members.abs(), others.abs()), -torch.maximum(members.abs(), others.abs()))


GrowCriterion = Callable[[LayerEvidence, torch.Generator], Tensor]
GROWS: dict[str, GrowCriterion] = {
    "random": grow_random, "gradient": grow_gradient, "momentum": grow_momentum, "unfired": grow_unfired,
    "safety": grow_safety,
}  # fmt: skip
SAFETY_AWARE = ("safety",)
"""Names, of drops and grows alike, that look at member_gradient and non_member_gradient."""
