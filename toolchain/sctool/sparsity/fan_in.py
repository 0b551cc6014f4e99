"""Constant fan-in: every output of a layer keeps as many weights as every other (SRigL: Lasby et al., "Dynamic Sparse
Training with Structured Sparsity", ICLR 2024, section 3, without its ablation of neurons).

Rows are outputs: the first side of a weight. A layout that stores rows side by side then pads none of them.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from sctool.sparsity.density import Counts, Shapes
from sctool.sparsity.drop import DROPS
from sctool.sparsity.evidence import LayerEvidence
from sctool.sparsity.grow import GROWS
from sctool.sparsity.topology import Masks, find_lowest


def round_to_rows(shapes: Shapes, counts: Counts) -> Counts:
    """The counts nearest to `counts` that all rows share evenly, at least one weight a row."""
    rounded = {}
    for name, count in counts.items():
        rows, *rest = shapes[name]
        columns = max(1, int(torch.Size(rest).numel()))
        rounded[name] = rows * min(columns, max(1, round(count / rows)))
    return rounded


def random_rows(shapes: Shapes, counts: Counts, generator: torch.Generator) -> Masks:
    """Bool masks with counts[name] / rows True positions in each row, uniformly at random."""
    scores = {name: torch.rand(shapes[name], generator=generator) for name in counts}
    return largest_in_rows(scores, counts)


def largest_in_rows(weights: Mapping[str, Tensor], counts: Counts) -> Masks:
    """Bool masks that keep the counts[name] / rows largest |w| of each row; ties go to the lower index."""
    masks = {}
    for name, count in counts.items():
        rows = -weights[name].detach().abs().flatten(1)
        masks[name] = (_rank(rows) < count // len(rows)).view(weights[name].shape)
    return masks


def update_rows(
    evidence: LayerEvidence, *, drop: str, grow: str, fraction: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """As `update_topology`, but every row grows as many weights as it drops.

    The lowest of the whole layer are dropped, so that rows change by as much as they deserve, up to the positions that a
    row has free. Returns (mask, grown): the new bool mask, every row of the count that it had, and what came back.
    """
    rows = evidence.mask.flatten(1)
    score = DROPS[drop](evidence).flatten(1).masked_fill(~rows, torch.inf)
    count = min(int(fraction * int(rows.sum())), int(torch.isfinite(score).sum()))
    dropped = find_lowest(score.masked_fill(~torch.isfinite(score), torch.inf), count)
    free = rows.shape[1] - rows.sum(1, keepdim=True)
    dropped &= _rank(score.masked_fill(~dropped, torch.inf)) < free
    preference = (-GROWS[grow](evidence, generator)).flatten(1).nan_to_num(nan=torch.finfo(torch.float32).max)
    grown = _rank(preference.masked_fill(rows, torch.inf)) < dropped.sum(1, keepdim=True)
    updated = (rows & ~dropped) | grown
    return updated.view(evidence.mask.shape), grown.view(evidence.mask.shape)


def _rank(scores: Tensor) -> Tensor:
    """[rows, columns] -> each entry's place in its row, 0 for the lowest; ties go to the lower index."""
    order = torch.argsort(scores, dim=1, stable=True)
    places = torch.arange(scores.shape[1], device=scores.device).expand_as(order)
    return torch.empty_like(order).scatter_(1, order, places)
