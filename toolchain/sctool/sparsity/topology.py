"""Changes of the masks: sparse initialisation, and one drop-and-grow update that keeps every layer's count."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
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
    existing = mask.flatten().nonzero().squeeze(1)
    drop_score = DROPS[drop](evidence).flatten()[existing]
    droppable = int(torch.isfinite(drop_score).sum())
    count = min(int(fraction * len(existing)), mask.numel() - len(existing), droppable)
    if count == 0:
        return mask.clone(), torch.zeros_like(mask)
    grow_score = (-GROWS[grow](evidence, generator)).flatten()
    grow_score[existing] = torch.inf
    grown = find_lowest(grow_score, count)
    updated = mask.flatten() | grown
    updated[existing[find_lowest(drop_score, count)]] = False
    return updated.view(mask.shape), grown.view(mask.shape)


def find_lowest(scores: Tensor, count: int) -> Tensor:
    """Bool, shaped as `scores`: True at the `count` lowest; ties go to the lower index, NaN counts as the highest
    but for infinity.

    By selection, in linear time, where a stable sort is what it equals; NumPy's is eight times as fast as kthvalue.
    """
    chosen = torch.zeros(scores.numel(), dtype=torch.bool, device=scores.device)
    if count > 0:
        flat = scores.nan_to_num(nan=torch.finfo(scores.dtype).max, posinf=torch.inf, neginf=-torch.inf).flatten()
        border = float(np.partition(flat.cpu().numpy(), count - 1)[count - 1])
        low = (flat <= border).nonzero().squeeze(1)
        below = flat[low] < border
        ties = low[~below]
        chosen[low[below]] = True
        chosen[ties[: count - int(below.sum())]] = True
    return chosen.view(scores.shape)
