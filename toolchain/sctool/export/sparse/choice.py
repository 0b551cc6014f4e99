"""Where each weighted layer of a program runs, and why: the words that the partitioners, the manifest and inspect share."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from torch import fx

from sctool.native.costs import CostTable, LayerKind, LayerWork

Backend = Literal["sparse", "dense", "xnnpack"]
"""sparse: our runtime, zeros left out; dense: our runtime, all weights; xnnpack: the rest."""


@dataclass(frozen=True)
class LayerChoice:
    """Where one weighted layer runs, and what the table says of each way (microseconds; None: it cannot, or the table
    counts instructions)."""

    name: str
    kind: LayerKind
    shape: tuple[int, ...]
    nnz: int
    backend: Backend
    sparse_us: float | None
    dense_us: float | None
    xnnpack_us: float | None
    reason: str

    @property
    def density(self) -> float:
        return self.nnz / math.prod(self.shape)


@dataclass(frozen=True)
class Layer:
    """A weighted node, its work, and the cost of each way in the table's unit; infinite where a way has no kernel for it."""

    name: str
    node: fx.Node
    work: LayerWork
    shape: tuple[int, ...]
    costs: Mapping[Backend, float]

    @property
    def ours(self) -> Backend:
        return "sparse" if self.costs["sparse"] <= self.costs["dense"] else "dense"

    @property
    def gain(self) -> float:
        """What our runtime saves, in the table's unit."""
        return self.costs["xnnpack"] - self.costs[self.ours]


def explain(layer: Layer, taken: bool, table: CostTable) -> LayerChoice:
    """What was decided of `layer`, in the words of a manifest."""
    costs = {way: table.microseconds(cost) for way, cost in layer.costs.items()}
    backend: Backend = layer.ours if taken else "xnnpack"
    return LayerChoice(
        layer.name, layer.work.kind, layer.shape, layer.work.nnz, backend,
        costs["sparse"], costs["dense"], costs["xnnpack"], _reason(layer, taken, table),
    )  # fmt: skip


def _reason(layer: Layer, taken: bool, table: CostTable) -> str:
    timed = table.unit == "ns"
    source = "the cost table" if timed else "emulated instruction counts"
    faster, slower = ("faster", "slower") if timed else ("cheaper", "dearer")
    ours = layer.costs[layer.ours]
    if math.isinf(ours):
        return "the sparse runtime has no kernel for it"
    ratio = layer.costs["xnnpack"] / ours
    if taken:
        return (
            f"{ratio:.1f} x {faster} than XNNPACK by {source}"
            if ratio >= 1
            else f"{1 / ratio:.1f} x {slower} by {source}, but its neighbours are there"
        )
    return (
        f"XNNPACK is {1 / ratio:.1f} x {faster} by {source}"
        if ratio < 1
        else f"{ratio:.1f} x {faster} alone by {source}, but not worth the way between the backends"
    )
