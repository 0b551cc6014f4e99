"""Which values [B, ., .] are tokens [B, T, F] and which are lines [B, C, L]: in the runtime both are maps of height one, and
only their operators tell which side is the channels."""

from __future__ import annotations

from dataclasses import dataclass

from torch import fx

from sctool.export.sparse.nodes import VIEWS, arguments, mean_axes, name_of, record_shape

_ALIKE = {
    "aten.add.Tensor", "aten.mul.Tensor", "aten.relu.default", "aten.hardtanh.default", "aten.clamp.default",
    "aten.hardswish.default", "aten.gelu.default", "aten.hardsigmoid.default", "aten.cat.default",
}  # fmt: skip
"""Operators whose inputs and output have one form."""


@dataclass(frozen=True)
class Forms:
    """`tokens`: values whose last side is the channels; `mixed`: those that some operators take so and others not."""

    tokens: frozenset[fx.Node]
    mixed: frozenset[fx.Node]


def find_forms(graph: fx.Graph) -> Forms:
    """Of every value of three dimensions; what nothing decides is a line."""
    nodes = [node for node in graph.nodes if len(record_shape(node) or ()) == 2]
    leader: dict[fx.Node, fx.Node] = {node: node for node in nodes}

    def lead(node: fx.Node) -> fx.Node:
        while leader[node] is not node:
            node = leader[node]
        return node

    wanted: list[tuple[fx.Node, bool]] = []
    for node in graph.nodes:
        if node.op != "call_function":
            continue
        inputs = [part for part in arguments(node) if part in leader]
        if name_of(node) in _ALIKE | {"getitem"} and node in leader:
            for part in inputs:
                leader[lead(part)] = lead(node)
        tokens = _takes_tokens(node)
        if tokens is not None:
            wanted += [(part, tokens) for part in (*inputs, node) if part in leader]
    found: dict[fx.Node, set[bool]] = {node: set() for node in nodes}
    for node, tokens in wanted:
        found[lead(node)].add(tokens)
    verdicts = {node: found[lead(node)] for node in nodes}
    return Forms(
        frozenset(node for node, verdict in verdicts.items() if verdict == {True}),
        frozenset(node for node, verdict in verdicts.items() if len(verdict) == 2),
    )


def _takes_tokens(node: fx.Node) -> bool | None:
    """Whether an operator wants channels last (True) or first (False) in values of three dimensions; None: either."""
    name = name_of(node)
    if name in ("aten.linear.default", "aten.native_layer_norm.default"):
        return True
    if name == "aten.mean.dim":
        return mean_axes(node) == [1]
    if name in ("aten.convolution.default", "aten.cat.default") or name in VIEWS or "squeeze" in name:
        return False
    return None
