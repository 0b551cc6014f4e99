"""Which tensors of an ONNX graph follow from constants alone, and what is stored for each.

A sparse tensor is stored as constants and nodes that decode them; whatever those nodes are, they are found by this: all
that they read is constant. So codecs of other tools and of later versions are seen too. The graph is walked, not executed.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx

MAX_NODES = 200_000
MAX_STEPS = 5_000_000
_NOT_CONSTANT = {
    "If", "Loop", "SequenceMap", "RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike",
    "Bernoulli", "Multinomial", "Dropout",
}  # fmt: skip


@dataclass(frozen=True)
class ConstantTensor:
    """`name`: the value that a node which is not constant reads; `reader`: such a node's operator, `place`: which of its
    inputs it is.

    `stored`: names of the initialisers that it follows from; `nodes`: indices into graph.node of those that decode it, in
    order; both empty for what is no decoding.
    """

    name: str
    reader: str
    place: int
    stored: tuple[str, ...]
    nodes: tuple[int, ...]


def find_constants(graph: onnx.GraphProto) -> list[ConstantTensor]:
    """Every constant that the rest of the graph reads, in the order in which it is read. ValueError for over MAX_NODES
    nodes, or a graph that takes over MAX_STEPS to follow."""
    if len(graph.node) > MAX_NODES:
        raise ValueError(f"{len(graph.node)} nodes; the limit is {MAX_NODES}")
    given = {value.name for value in graph.input}
    initialisers = {tensor.name for tensor in graph.initializer} | {t.values.name for t in graph.sparse_initializer}
    initialisers -= given
    made: dict[str, int] = {}
    reads = [_read_names(node) for node in graph.node]
    constant = [False] * len(graph.node)
    for number, (node, names) in enumerate(zip(graph.node, reads, strict=True)):
        constant[number] = names is not None and all(name in initialisers or name in made for name in names)
        if constant[number]:
            made.update(dict.fromkeys(filter(None, node.output), number))
    found: dict[str, ConstantTensor] = {}
    steps = 0
    for number, node in enumerate(graph.node):
        if constant[number]:
            continue
        for place, name in enumerate(node.input):
            if name in found or not (name in made or name in initialisers):
                continue
            stored, nodes = _trace(name, made, reads)
            steps += 1 + sum(len(reads[each] or ()) for each in nodes)
            if steps > MAX_STEPS:
                raise ValueError(f"its constants take more than {MAX_STEPS} steps to follow")
            found[name] = ConstantTensor(name, node.op_type, place, stored, nodes)
    return list(found.values())


def _read_names(node: onnx.NodeProto) -> list[str] | None:
    """What a node reads: its inputs, and what a Scan's body takes from around it. None where it follows from more."""
    names = [name for name in node.input if name]
    bodies = [attribute.g for attribute in node.attribute if attribute.HasField("g")]
    if node.op_type in _NOT_CONSTANT or any(attribute.graphs for attribute in node.attribute):
        return None
    if bodies and node.op_type != "Scan":
        return None
    for body in bodies:
        known = {value.name for value in body.input} | {tensor.name for tensor in body.initializer}
        for inner in body.node:
            taken = None if inner.op_type == "Scan" else _read_names(inner)
            if taken is None:
                return None
            names += [name for name in taken if name not in known]
            known.update(inner.output)
    return names


def _trace(name: str, made: dict[str, int], reads: list[list[str] | None]) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """(initialisers, nodes) that `name` follows from."""
    stored: dict[str, None] = {}
    nodes: set[int] = set()
    waiting = [name]
    while waiting:
        value = waiting.pop()
        number = made.get(value)
        if number is None:
            stored[value] = None
        elif number not in nodes:
            nodes.add(number)
            waiting += reversed(reads[number] or [])
    return tuple(stored), tuple(sorted(nodes))


def extract_constants(model: onnx.ModelProto, tensor: ConstantTensor) -> onnx.ModelProto:
    """A model without inputs whose only output is `tensor`."""
    wanted = set(tensor.stored)
    part = onnx.ModelProto(ir_version=model.ir_version)
    part.opset_import.extend(model.opset_import)
    part.functions.extend(model.functions)
    part.graph.name = "constants"
    part.graph.node.extend(model.graph.node[number] for number in tensor.nodes)
    part.graph.initializer.extend(t for t in model.graph.initializer if t.name in wanted)
    part.graph.sparse_initializer.extend(t for t in model.graph.sparse_initializer if t.values.name in wanted)
    made = {name for number in tensor.nodes for name in model.graph.node[number].output}
    part.graph.value_info.extend(value for value in model.graph.value_info if value.name in made)
    part.graph.output.append(onnx.ValueInfoProto(name=tensor.name))
    return part
