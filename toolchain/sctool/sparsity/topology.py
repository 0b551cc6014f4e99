"""Changes of the masks: sparse initialisation, and one drop-and-grow update that keeps every layer's count."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from sctool.sparsity.density import Counts
from sctool.sparsity.drop import DROPS
from sctool.sparsity.evidence import LayerEvidence
from sctool.sparsity.grow import GROWS

Masks = dict[str, Tensor]


def random_masks(shapes: Mapping[str, tuple[int, ...]], counts: Counts, generator: torch.Generator) -> Masks:
    """Bool masks with exactly counts[name] True positions, uniformly at random."""
    masks = {}
    for name, shape in shapes.items():
        mask = torch.zeros(shape, dtype=torch.bool).flatten()
        mask[torch.randperm(mask.numel(), generator=generator)[: counts[name]]] = True
        masks[name] = mask.view(shape)
    return masks


def magnitude_masks(weights: Mapping[str, Tensor], counts: Counts) -> Masks:
    """Bool masks that keep the counts[name] largest |w| of each dense weight; ties go to the lower index."""
    masks = {}
    for name, weight in weights.items():
        order = weight.abs().flatten().argsort(descending=True, stable=True)
        mask = torch.zeros(weight.numel(), dtype=torch.bool, device=weight.device)
        mask[order[: counts[name]]] = True
        masks[name] = mask.view(weight.shape)
    return masks


def update_topology(
    evidence: LayerEvidence, *, drop: str, grow: str, fraction: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Drop `fraction` of the existing weights and grow as many elsewhere (never one just dropped).

    Fewer go where the criterion lets fewer go or where too few positions are free. Returns (mask, grown): the new bool
    mask with the same count as before, and the positions that came back. Grown weights start at zero (the caller sets
    them).
    """
    mask = evidence.mask
    existing = int(mask.sum())
    drop_score = DROPS[drop](evidence).masked_fill(~mask, torch.inf)
    droppable = int(torch.isfinite(drop_score).sum())
    count = min(int(fraction * existing), mask.numel() - existing, droppable)
    if count == 0:
        return mask.clone(), torch.zeros_like(mask)
    dropped = _first(drop_score.flatten().argsort(stable=True), count, mask)
    grow_score = GROWS[grow](evidence, generator).masked_fill(mask, -torch.inf)
    grown = _first(grow_score.flatten().argsort(descending=True, stable=True), count, mask)
    return (mask & ~dropped) | grown, grown


def _first(order: Tensor, count: int, like: Tensor) -> Tensor:
    """Bool, shaped as `like`: True at the first `count` flat positions of `order`."""
    chosen = torch.zeros(like.numel(), dtype=torch.bool)
    chosen[order[:count]] = True
    return chosen.view(like.shape)
