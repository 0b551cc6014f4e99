"""Which parts of an edge program the sparse runtime takes: those where the cost table says that it pays."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, final

import torch
from executorch.exir.backend.compile_spec_schema import CompileSpec
from executorch.exir.backend.partitioner import DelegationSpec, Partitioner, PartitionResult
from executorch.exir.backend.utils import tag_constant_data
from torch import fx
from torch.export import ExportedProgram
from torch.fx.passes.infra.partitioner import CapabilityBasedPartitioner
from torch.fx.passes.operator_support import OperatorSupportBase

from sctool.export.sparse.backend import SPEC, SctoolSparse, parameter_name
from sctool.export.sparse.lowering import (
    LIMITS,
    activation_of,
    convolution_window,
    flattens,
    name_of,
    pool_window,
    record_shape,
)
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
class _Layer:
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
        """Nanoseconds that our runtime saves."""
        return self.costs["xnnpack"] - self.costs[self.ours]


@final
class SparsePartitioner(Partitioner):  # type: ignore[misc]
    """Tags what goes to SctoolSparse; put it before XNNPACK's partitioner, which takes the rest.

    `nonzeros`: parameter name in the exported module -> non-zeros (partitioners see weights without their values).
    """

    def __init__(
        self, nonzeros: Mapping[str, int], *, costs: CostTable, max_batch: int, values: str = "float32"
    ) -> None:
        super().__init__()
        self._nonzeros, self._costs, self._max_batch, self._values = nonzeros, costs, max_batch, values
        self.choices: list[LayerChoice] = []
        """What was decided, layer by layer; filled by partition()."""

    def ops_to_not_decompose(self, ep: ExportedProgram) -> tuple[list[Any], Any]:
        """Linear layers stay whole; XNNPACK asks for the same."""
        return [torch.ops.aten.linear.default], None

    def partition(self, exported_program: ExportedProgram) -> PartitionResult:
        graph = exported_program.graph
        layers = [layer for node in graph.nodes if (layer := self._layer(exported_program, node)) is not None]
        taken = choose_layers(graph, layers, self._costs)
        self.choices = [_explain(layer, layer.node in taken, self._costs) for layer in layers]
        sparse = sorted(layer.name for layer in layers if layer.node in taken and layer.ours == "sparse")
        settings = {"max_batch": self._max_batch, "sparse": sparse, "values": self._values}
        spec = DelegationSpec(SctoolSparse.__name__, [CompileSpec(SPEC, json.dumps(settings).encode())])
        tags: dict[str, DelegationSpec] = {}
        nodes = follow_layers(graph, taken)
        proposed = CapabilityBasedPartitioner(
            exported_program.graph_module, _Among(nodes), allows_single_node_partition=True
        ).propose_partitions()
        for number, part in enumerate(proposed):
            tag = f"sctool_sparse_{number}"
            for node in part.nodes:
                node.meta["delegation_tag"] = tag
            tags[tag] = spec
        tag_constant_data(exported_program)
        return PartitionResult(exported_program, tags)

    def _layer(self, program: ExportedProgram, node: fx.Node) -> _Layer | None:
        kind = _kind_of(node)
        if kind is None:
            return None
        weight = node.args[1]
        name = parameter_name(program, weight) if isinstance(weight, fx.Node) else None
        if name is None or not isinstance(weight, fx.Node):
            return None
        shape = tuple(int(side) for side in weight.meta["val"].shape)
        before, after = record_shape(node.args[0]), record_shape(node)  # type: ignore[arg-type]
        size = math.prod(shape)
        work = LayerWork(
            kind=kind, nnz=min(self._nonzeros.get(name, size), size), size=size, pixels=math.prod((after or (1,))[1:]),
            kernel_width=shape[-1] if len(shape) == 4 else 1, inputs=math.prod(before or (0,)),
            outputs=math.prod(after or (0,)),
        )  # fmt: skip
        able = _runs_here(node)
        costs: dict[Backend, float] = {
            "sparse": self._costs.layer_ns(work, "sparse") if able and _may_be_sparse(node) else math.inf,
            "dense": self._costs.layer_ns(work, "dense") if able else math.inf,
            "xnnpack": self._costs.layer_ns(work, "xnnpack"),
        }
        return _Layer(name, node, work, shape, costs)


class _Among(OperatorSupportBase):
    def __init__(self, nodes: set[fx.Node]) -> None:
        self._nodes = nodes

    def is_node_supported(self, submodules: Mapping[str, torch.nn.Module], node: fx.Node) -> bool:
        return node in self._nodes


def choose_layers(graph: fx.Graph, layers: list[_Layer], costs: CostTable) -> set[fx.Node]:
    """The layers that our runtime takes: of all, none and each where it is faster, the cheapest, borders between the
    backends counted; then changed layer by layer for as long as that saves time."""
    able = [layer for layer in layers if math.isfinite(layer.costs[layer.ours])]

    def total(taken: frozenset[fx.Node]) -> float:
        time = sum(layer.costs[layer.ours] if layer.node in taken else layer.costs["xnnpack"] for layer in layers)
        return time + _border_ns(graph, follow_layers(graph, set(taken)), costs)

    starts = [
        frozenset(layer.node for layer in able), frozenset(), frozenset(layer.node for layer in able if layer.gain > 0)
    ]  # fmt: skip
    best = min(starts, key=total)
    least = total(best)
    for _ in range(3):
        before = least
        for layer in able:
            flipped = best ^ {layer.node}
            if (time := total(flipped)) < least:
                best, least = flipped, time
        if least == before:
            break
    return set(best)


def follow_layers(graph: fx.Graph, taken: set[fx.Node]) -> set[fx.Node]:
    """`taken` with the operators without weights that have only such neighbours before them, or none but them after."""
    nodes = set(taken)
    for node in graph.nodes:
        if _is_plain(node) and _producers(node) and all(part in nodes for part in _producers(node)):
            nodes.add(node)
    for node in reversed(list(graph.nodes)):
        if _is_plain(node) and node not in nodes and node.users and all(user in nodes for user in node.users):
            nodes.add(node)
    return _without_half_pools(nodes)


def _without_half_pools(nodes: set[fx.Node]) -> set[fx.Node]:
    """A maximum pool and the item taken from it go together."""
    lone = {
        node
        for node in nodes
        if (name_of(node) == "aten.max_pool2d_with_indices.default" and not set(node.users) <= nodes)
        or (_is_item(node) and node.args[0] not in nodes)
    }
    return nodes - lone


def _producers(node: fx.Node) -> list[fx.Node]:
    return list(node.all_input_nodes)


def _border_ns(graph: fx.Graph, ours: set[fx.Node], costs: CostTable) -> float:
    """What crossing between the backends takes: each value that does, and each change of sides."""
    crossing = [
        node
        for node in graph.nodes
        if node.op == "call_function"
        and record_shape(node) is not None
        and any((user in ours) != (node in ours) for user in node.users if user.op == "call_function")
    ]
    floats = sum(math.prod(record_shape(node) or ()) for node in crossing)
    return len(crossing) * costs.boundary_ns + floats * costs.boundary_ns_per_float


def _kind_of(node: fx.Node) -> LayerKind | None:
    name = name_of(node)
    if name == "aten.linear.default":
        return "linear"
    if name != "aten.convolution.default" or record_shape(node) is None:
        return None
    shape = tuple(node.args[1].meta["val"].shape)  # type: ignore[union-attr]
    if len(shape) != 4:
        return None
    if int(node.args[8]) > 1:  # type: ignore[arg-type]
        return "depthwise"
    return "pointwise" if shape[2:] == (1, 1) else "spatial"


def _may_be_sparse(node: fx.Node) -> bool:
    return name_of(node) == "aten.linear.default" or int(node.args[8]) == 1  # type: ignore[arg-type]


def _runs_here(node: fx.Node) -> bool:
    """Whether the runtime has a kernel for a weighted layer."""
    before, after = record_shape(node.args[0]), record_shape(node)  # type: ignore[arg-type]
    if before is None or after is None or max(before[0], after[0]) > LIMITS["channels"]:
        return False
    if name_of(node) == "aten.linear.default":
        return len(before) == 1
    window = convolution_window(node)
    if window is None or max(*before[1:], *after[1:]) > LIMITS["side"]:
        return False
    # The packed planes of one channel must be within reach of 16-bit offsets, whatever the vector's width.
    return window.width * window.stride * (16 + window.height) * after[2] <= LIMITS["tile"]


def _is_item(node: fx.Node) -> bool:
    return node.op == "call_function" and getattr(node.target, "__name__", "") == "getitem"


def _is_plain(node: fx.Node) -> bool:
    """An operator without weights that the runtime has."""
    if node.op != "call_function":
        return False
    if _is_item(node):
        pool = node.args[0]
        return bool(isinstance(pool, fx.Node) and node.args[1] == 0 and _is_plain(pool))
    name, shape = name_of(node), record_shape(node)
    if shape is None:
        return False
    inputs = [record_shape(part) for part in node.all_input_nodes]
    if None in inputs:
        return False
    if name == "aten.add.Tensor":
        both = [part for part in node.args[:2] if isinstance(part, fx.Node)]
        return bool(len(both) == 2 and all(part == shape for part in inputs) and node.kwargs.get("alpha", 1) == 1)
    if name == "aten.max_pool2d_with_indices.default":
        return len(node.users) == 1 and pool_window(node) is not None
    if name == "aten.avg_pool2d.default":
        return pool_window(node) is not None
    if name == "aten.mean.dim":
        axes = sorted(int(axis) % 4 for axis in node.args[1])  # type: ignore[union-attr, arg-type]
        return len(inputs[0] or ()) == 3 and axes == [2, 3]
    if name == "aten.cat.default":
        return bool(len(node.args) > 1 and node.args[1] == 1)
    return activation_of(node) is not None or flattens(node)


def _explain(layer: _Layer, taken: bool, table: CostTable) -> LayerChoice:
    costs = {way: table.microseconds(ns) for way, ns in layer.costs.items()}
    backend: Backend = layer.ours if taken else "xnnpack"
    return LayerChoice(
        layer.name, layer.work.kind, layer.shape, layer.work.nnz, backend,
        costs["sparse"], costs["dense"], costs["xnnpack"], _reason(layer, taken, table),
    )  # fmt: skip


def _reason(layer: _Layer, taken: bool, table: CostTable) -> str:
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
