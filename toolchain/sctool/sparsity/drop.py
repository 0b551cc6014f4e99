"""Drop criteria: which of the existing weights go. Each returns a score [*weight.shape]; the lowest go first, a score
of +inf never goes, and scores outside the mask do not matter."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from sctool.sparsity.evidence import LayerEvidence

THRESHOLD = 0.001
"""Of the authors' code: only weights smaller than this are dropped."""


def drop_magnitude(evidence: LayerEvidence) -> Tensor:
    """|w|: the smallest go (SET, Mocanu et al. 2018; RigL)."""
    return evidence.weight.abs()


def drop_threshold(evidence: LayerEvidence) -> Tensor:
    """|w| where it is under THRESHOLD; larger weights stay, so that fewer than the round's share may go."""
    size = evidence.weight.abs()
    return size.masked_fill(size >= THRESHOLD, torch.inf)


def drop_set(evidence: LayerEvidence) -> Tensor:
    """SET sign-wise: the smallest positive and the largest negative weights go, each sign losing its share."""
    weight = evidence.weight
    score = torch.full_like(weight, torch.inf)
    for positive in (True, False):
        chosen = evidence.mask & ((weight > 0) if positive else (weight <= 0))
        score[chosen] = _rank(weight[chosen].abs())
    return score


def drop_taylor(evidence: LayerEvidence) -> Tensor:
    """|w * dL/dw|: first-order change of the loss when the weight goes (Molchanov et al. 2017)."""
    return (evidence.weight * evidence.gradient).abs()


def drop_safety(evidence: LayerEvidence) -> Tensor:
    """Ours: small weights that hold much of the membership signal go first.

    The signal is the loss gap G = loss(non-members) - loss(members); w -> 0 changes it by -w * dG/dw to first order
    (the risk of PAST, arXiv 2410.06814, with a sign). Score: rank of |w| minus rank of that reduction, both in [0, 1)
    among the layer's existing weights.
    """
    if evidence.member_gradient is None or evidence.non_member_gradient is None:
        raise ValueError("drop_safety needs member_gradient and non_member_gradient")
    mask = evidence.mask
    reduction = evidence.weight * (evidence.non_member_gradient - evidence.member_gradient)
    score = torch.full_like(evidence.weight, torch.inf)
    score[mask] = _rank(evidence.weight[mask].abs()) - _rank(reduction[mask])
    return score


def _rank(values: Tensor) -> Tensor:
    """[n] -> ranks in [0, 1), ties in the order of the index."""
    ranks = values.argsort(stable=True).argsort(stable=True).to(values.dtype)
    return ranks / max(len(values), 1)


DropCriterion = Callable[[LayerEvidence], Tensor]
DROPS: dict[str, DropCriterion] = {
    "magnitude": drop_magnitude, "threshold": drop_threshold, "set": drop_set, "taylor": drop_taylor,
    "safety": drop_safety,
}  # fmt: skip
