"""Which nodes of a program the sparse runtime takes: those where the cost table says that it pays."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import fx
from torch.fx.passes.operator_support import OperatorSupportBase

from sctool.export.sparse.choice import Backend, Layer, LayerChoice, explain
from sctool.export.sparse.forms import find_forms
from sctool.export.sparse.int8 import SHARE, computes_int8
from sctool.export.sparse.nodes import arguments, batch_of, name_of, record_shape
from sctool.export.sparse.support import is_item, is_plain, kind_of, may_be_sparse, output_pixels, runs_here
from sctool.native.costs import CostTable, LayerWork

PAIRED = {"aten.max_pool2d_with_indices.default", "aten.native_layer_norm.default"}
"""Operators of several results, of which the first is used."""
WeightName = Callable[[fx.Node], str | None]
"""A node that is read as a weight -> the name of the parameter behind it; None for what is none."""


@dataclass(frozen=True)
class Plan:
    """`nodes`: what our runtime takes; `sparse`: names of the weights whose zeros it leaves out; `choices`: every weighted
    layer, and why."""

    nodes: set[fx.Node]
    sparse: list[str]
    choices: list[LayerChoice]


class Among(OperatorSupportBase):
    """Supports the given nodes, for PyTorch's partitioner."""

    def __init__(self, nodes: set[fx.Node]) -> None:
        self._nodes = nodes

    def is_node_supported(self, submodules: Mapping[str, torch.nn.Module], node: fx.Node) -> bool:
        return node in self._nodes


def plan_layers(
    graph: fx.Graph, weight_name: WeightName, nonzeros: Mapping[str, int], costs: CostTable, *, quantised: bool = False
) -> Plan:
    """`nonzeros`: parameter name -> how many it has; a parameter that is not there has no zeros. `quantised`: sparse layers
    that are large enough compute in int8."""
    inputs = [node for node in graph.find_nodes(op="placeholder") if weight_name(node) is None]
    forms, batch = find_forms(graph), batch_of(inputs[0]) if inputs else ""
    plain = {node for node in graph.nodes if is_plain(node, forms) and batch_of(node) == batch}

    def weigh(node: fx.Node) -> Layer | None:
        name = _name_weight(node, weight_name)
        if name is None:
            return None
        able = runs_here(node, forms) and batch_of(node) == batch
        return _weigh(node, name, nonzeros, costs, able=able, quantised=quantised)

    layers = [layer for node in graph.nodes if (layer := weigh(node)) is not None]
    taken = choose_layers(graph, layers, plain, costs)
    sparse = sorted(layer.name for layer in layers if layer.node in taken and layer.ours == "sparse")
    choices = [explain(layer, layer.node in taken, costs) for layer in layers]
    return Plan(follow_layers(graph, taken, plain), sparse, choices)


def _name_weight(node: fx.Node, weight_name: WeightName) -> str | None:
    weight = node.args[1] if kind_of(node) else None
    return weight_name(weight) if isinstance(weight, fx.Node) else None


def _weigh(
    node: fx.Node, name: str, nonzeros: Mapping[str, int], costs: CostTable, *, able: bool, quantised: bool
) -> Layer:
    kind, weight = kind_of(node), node.args[1]
    assert kind is not None and isinstance(weight, fx.Node)
    shape = tuple(int(side) for side in weight.meta["val"].shape)
    size = math.prod(shape)
    work = LayerWork(
        kind=kind, nnz=min(nonzeros.get(name, size), size), size=size, pixels=output_pixels(node),
        kernel_width=shape[-1] if len(shape) > 2 else 1, inputs=math.prod(record_shape(arguments(node)[0]) or (0,)),
        outputs=math.prod(record_shape(node) or (0,)),
    )  # fmt: skip
    share = SHARE if quantised and computes_int8(work.nnz, shape[0], work.pixels) else 1.0
    ways: dict[Backend, float] = {
        "sparse": share * costs.layer_ns(work, "sparse") if able and may_be_sparse(node) else math.inf,
        "dense": costs.layer_ns(work, "dense") if able else math.inf,
        "xnnpack": costs.layer_ns(work, "xnnpack"),
    }
    return Layer(name, node, work, shape, ways)


def choose_layers(graph: fx.Graph, layers: list[Layer], plain: set[fx.Node], costs: CostTable) -> set[fx.Node]:
    """The layers that our runtime takes: of all, none and each where it is faster, the cheapest, borders between the
    backends counted; then changed layer by layer for as long as that saves time."""
    able = [layer for layer in layers if math.isfinite(layer.costs[layer.ours])]

    def total(taken: frozenset[fx.Node]) -> float:
        time = sum(layer.costs[layer.ours] if layer.node in taken else layer.costs["xnnpack"] for layer in layers)
        return time + _border_ns(graph, follow_layers(graph, set(taken), plain), costs)

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


def follow_layers(graph: fx.Graph, taken: set[fx.Node], plain: set[fx.Node]) -> set[fx.Node]:
    """`taken` with those of `plain` that have only such neighbours before them, or none but them after."""
    nodes = set(taken)
    for node in graph.nodes:
        if node in plain and all(part in nodes for part in arguments(node)):
            nodes.add(node)
    for node in reversed(list(graph.nodes)):
        if node in plain and node not in nodes and node.users and all(user in nodes for user in node.users):
            nodes.add(node)
    return _without_halves(nodes)


def _without_halves(nodes: set[fx.Node]) -> set[fx.Node]:
    """An operator of several results and the item taken from it go together."""
    lone = {
        node
        for node in nodes
        if (name_of(node) in PAIRED and not set(node.users) <= nodes) or (is_item(node) and node.args[0] not in nodes)
    }
    return nodes - lone


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
