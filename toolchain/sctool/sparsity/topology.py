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
        masks[name] = find_lowest(-weight.detach().abs(), counts[name])
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
    drop_score = DROPS[drop](evidence)[mask]
    droppable = int(torch.isfinite(drop_score).sum())
    count = min(int(fraction * existing), mask.numel() - existing, droppable)
    if count == 0:
        return mask.clone(), torch.zeros_like(mask)
    dropped = torch.zeros_like(mask)
    dropped[mask] = find_lowest(drop_score, count)
    grown = find_lowest(-GROWS[grow](evidence, generator).masked_fill(mask, -torch.inf), count)
    return (mask & ~dropped) | grown, grown


def find_lowest(scores: Tensor, count: int) -> Tensor:
    """Bool, shaped as `scores`: True at the `count` lowest; ties go to the lower index, NaN counts as the highest
    but for infinity.

    By selection, in linear time, where a stable sort is what it equals.
    """
    flat = scores.nan_to_num(nan=torch.finfo(scores.dtype).max, posinf=torch.inf, neginf=-torch.inf).flatten()
    if count == 0:
        return torch.zeros_like(scores, dtype=torch.bool)
    border = flat.kthvalue(count).values
    chosen = flat < border
    ties = (flat == border).nonzero().flatten()
    chosen[ties[: count - int(chosen.sum())]] = True
    return chosen.view(scores.shape)
