"""Tensors through both codecs: the initialisers and nodes that give them back under their own names."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sctool.export.codecs.codec import PositionCodec, Quantised, ValueCodec
from sctool.export.codecs.scope import Scope


def encode_tensor(
    name: str, quantised: Quantised, positions: PositionCodec, values: ValueCodec, *, framed: bool = False
) -> Scope:
    """The parts of tensor `name`, of at least one element; the last node's output, or an initialiser, is called `name`.

    With `framed` it is given back as [1, 1, *shape], without the copy that takes those axes away; for what `can_frame`, by
    nodes.
    """
    scope = Scope(name, framed=quantised.codes.ndim if framed else 0)
    dense = positions.add_tensor(scope, quantised, values)
    if quantised.scale is not None:
        dense = scope.add("Mul", [dense, scope.constant("scale", quantised.scale)])
    if scope.nodes:
        assert scope.nodes[-1].output[0] == dense
        scope.rename_last()
    else:
        for tensor in scope.initialisers:
            tensor.name = name if tensor.name == dense else tensor.name
    return scope


def encode_stack(
    name: str, members: Sequence[str], whole: Quantised, positions: PositionCodec, values: ValueCodec
) -> list[Scope]:
    """The parts of `whole`, the stack of `members`, decoded as one tensor `name`, then a scope for each of them.

    A node costs more at load than the values that it works on, where tensors are small: here all but the last are one for
    all members. Where the stack is framed, taking a member out of it is the copy that a tensor alone needs too.
    """
    framed = can_frame(whole)
    scopes = [encode_tensor(name, whole, positions, values, framed=framed)]
    for number, tensor in enumerate(members):
        own = Scope(tensor)
        own.add("GatherND", [name, own.common(np.array([0, 0, number] if framed else [number], np.int64))])
        own.rename_last()
        scopes.append(own)
    return scopes


def can_frame(quantised: Quantised) -> bool:
    """Whether ONNX Runtime's MaxUnpool, which knows one to three axes of pooling, can make it, and rows of it."""
    return 2 <= quantised.codes.ndim <= 3


def stack(members: Sequence[Quantised]) -> Quantised:
    """`members` along a new first axis."""
    first = members[0]
    scales = [each.scale for each in members if each.scale is not None]
    return Quantised(
        np.stack([each.codes for each in members]), first.width, first.dtype, scale=np.stack(scales) if scales else None
    )


def describe_kin(quantised: Quantised) -> tuple[object, ...] | None:
    """Equal for tensors that can be stacked; None for one that cannot be."""
    codes, scale = quantised.codes, quantised.scale
    if quantised.table is not None or codes.ndim < 1 or (scale is not None and scale.ndim != codes.ndim):
        return None
    return codes.shape, codes.dtype.str, quantised.dtype.str, quantised.width, None if scale is None else scale.shape
