"""One tensor through both codecs: the initialisers and nodes that give it back under its own name."""

from __future__ import annotations

from sctool.export.codecs.codec import PositionCodec, Quantised, ValueCodec
from sctool.export.codecs.scope import Scope


def encode_tensor(name: str, quantised: Quantised, positions: PositionCodec, values: ValueCodec) -> Scope:
    """The parts of tensor `name`, of at least one element; the last node's output, or an initialiser, is called `name`."""
    scope = Scope(name)
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
