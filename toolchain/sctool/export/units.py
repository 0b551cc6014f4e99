"""What is stored as one: tensors that are alike are stacked, so that a few nodes decode many, and tables stay framed.

A table is a tensor that nothing but Gather reads, along its first axis: such a node can as well read [1, 1, *shape].
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import onnx
from onnx import NodeProto, helper

from sctool.export.codecs.codec import PositionCodec, Quantised, ValueCodec
from sctool.export.codecs.encode import can_frame, describe_kin, encode_stack, encode_tensor, stack
from sctool.export.codecs.scope import COMMON, Scope

OPSET = 13
"""Of Squeeze with its axes as an input."""
STACK = "stack/"
"""What the names of stacks begin with."""
STACK_ELEMENTS = 2**19
"""Of a stack at most: all that its decoding leaves over stays until its stage ends."""
MEMBER_NS = 4e4
"""CPU time at load of what a stack has for each member (x86 host, one thread)."""
COPY_NS, COPY_BYTES = 3.0, 4
"""CPU time, and bytes left over, of one more tensor that an element is written to."""
FRAME = f"{COMMON}frame"
"""Initialiser: the axes that a framed tensor has before its own."""


@dataclass(frozen=True)
class Unit:
    """`members`: tensor -> its codes; several are stacked. `values` made them. `framed`: given back as [1, 1, *shape]."""

    name: str
    members: dict[str, Quantised]
    values: ValueCodec
    framed: bool = False

    @property
    def elements(self) -> int:
        return sum(each.codes.size for each in self.members.values())

    @cached_property
    def stored(self) -> dict[str, int]:
        """Member -> its codes that are not 0."""
        return {tensor: int(np.count_nonzero(each.codes)) for tensor, each in self.members.items()}

    @cached_property
    def whole(self) -> Quantised:
        """The only member, or the stack of all."""
        members = list(self.members.values())
        return members[0] if len(members) == 1 else stack(members)

    def estimate_cost(self, positions: PositionCodec, values: ValueCodec) -> tuple[float, float]:
        """(CPU time in ns that decoding adds at load, bytes that it leaves over until its stage ends)."""
        dense = positions.name == "dense"
        stored = self.elements if dense else sum(self.stored.values())
        costs = positions.cost, positions.lifts.get(values.name, values.cost)
        load_ns, left_bytes = map(sum, zip(*(cost.take(self.elements, stored) for cost in costs), strict=True))
        if dense:
            return load_ns, left_bytes
        # MaxUnpool makes a tensor, Reshape another; a table has the first alone, and a stack of kernels is copied once more
        copies = -1 if self.framed else 1 if len(self.members) > 1 and not can_frame(self.whole) else 0
        members_ns = MEMBER_NS * (len(self.members) - 1)
        return load_ns + members_ns + COPY_NS * copies * self.elements, left_bytes + COPY_BYTES * copies * self.elements

    def encode(self, positions: PositionCodec, values: ValueCodec) -> list[Scope]:
        """What the members have in common, then each one's own part. `dense` shares nothing, and takes its own shape."""
        if len(self.members) > 1 and positions.name != "dense":
            return encode_stack(self.name, list(self.members), self.whole, positions, values)
        framed = self.framed and positions.name != "dense"
        return [encode_tensor(tensor, each, positions, values, framed=framed) for tensor, each in self.members.items()]


def form_units(
    quantised: Mapping[str, Quantised], values: Mapping[str, ValueCodec], tables: Collection[str]
) -> list[Unit]:
    """Units of tensors `quantised`, in the order of their first members; stacks are called stack/SHAPE/NUMBER."""
    kin: dict[object, list[str]] = {}
    for tensor, each in quantised.items():
        kind = None if tensor in tables else describe_kin(each)
        nnz = np.count_nonzero(each.codes)
        alone = kind is None or nnz == 0
        key = tensor if alone else (kind, values[tensor].name, round(np.log2(nnz / each.codes.size)))
        kin.setdefault(key, []).append(tensor)
    units = []
    taken = set(quantised)
    for names in kin.values():
        prefix = STACK + "x".join(map(str, quantised[names[0]].codes.shape)) + "/"
        room = max(STACK_ELEMENTS // max(quantised[names[0]].codes.size, 1), 1)
        for some in np.array_split(names, -(-len(names) // room)):
            members = {str(tensor): quantised[str(tensor)] for tensor in some}
            first = str(some[0])
            if len(members) > 1:
                name = next(f"{prefix}{number}" for number in itertools.count() if f"{prefix}{number}" not in taken)
                taken.add(name)
            else:
                name = first
            framed = first in tables and can_frame(quantised[first])
            units.append(Unit(name, members, values[first], framed))
    order = {tensor: number for number, tensor in enumerate(quantised)}
    return sorted(units, key=lambda unit: order[next(iter(unit.members))])


def find_tables(graph: onnx.GraphProto) -> set[str]:
    """Initialisers that are tables; none where a node has a graph of its own, which may read them too."""
    if any(attribute.HasField("g") or attribute.graphs for node in graph.node for attribute in node.attribute):
        return set()
    looked_up = {node.input[0] for node in graph.node if _looks_up(node)}
    others = {name for node in graph.node for name in node.input[1 if _looks_up(node) else 0 :]}
    return {tensor.name for tensor in graph.initializer} & looked_up - others - {out.name for out in graph.output}


def _looks_up(node: NodeProto) -> bool:
    axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 0)
    return node.op_type == "Gather" and node.domain in ("", "ai.onnx") and axis == 0


def read_framed(nodes: Collection[NodeProto], framed: Collection[str]) -> list[NodeProto]:
    """`nodes`, where those that look something up in `framed` tables do so along the third axis."""
    read: list[NodeProto] = []
    for node in nodes:
        if not (_looks_up(node) and node.input[0] in framed):
            read.append(node)
            continue
        wide = f"{node.output[0]}/framed"
        read.append(helper.make_node("Gather", list(node.input), [wide], node.name, axis=2))
        read.append(helper.make_node("Squeeze", [wide, FRAME], list(node.output), f"{node.name}/Squeeze"))
    return read
