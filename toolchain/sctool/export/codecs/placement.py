"""Values set into a tensor of zeros, at flat positions that nodes have computed."""

from __future__ import annotations

import numpy as np
from onnx import numpy_helper

from sctool.export.codecs.codec import Quantised, ValueCodec
from sctool.export.codecs.scope import Scope

Slots = np.ndarray[tuple[int], np.dtype[np.int64]]


def find_slots(quantised: Quantised) -> Slots:
    """Flat positions, rising, of the codes that are not 0; [0] where there are none."""
    codes = np.ascontiguousarray(quantised.codes).reshape(-1)
    found = np.flatnonzero(codes.view(f"u{codes.itemsize}"))
    return found if len(found) else np.zeros(1, np.int64)


def pad_slots(slots: Slots, size: int, multiple: int, *, begin: bool = False) -> Slots:
    """`slots` with the first positions that are free beside them (explicit zeros), to a length of a whole `multiple`.

    With `begin`, position 0 is among them. As they are where too few positions are free.
    """
    if begin and slots[0] != 0:
        slots = np.concatenate([np.zeros(1, np.int64), slots])
    needed = -len(slots) % multiple
    if needed == 0:
        return slots
    taken = np.zeros(min(size, len(slots) + needed), bool)
    taken[slots[slots < len(taken)]] = True
    return np.sort(np.concatenate([slots, np.flatnonzero(~taken)[:needed]]))


def add_values(scope: Scope, quantised: Quantised, slots: Slots, index: str, values: ValueCodec) -> str:
    """The dense tensor from `index`, int64 of scope.frame(n), a node's output, and the values at `slots` [n]."""
    shape = scope.frame(len(slots))
    codes = quantised.codes.reshape(-1)[slots]
    return add_placement(scope, quantised, index, values.add_lift(scope, codes, shape, quantised), shape)


def add_placement(scope: Scope, quantised: Quantised, index: str, lifted: str, shape: tuple[int, ...]) -> str:
    """The dense tensor from flat positions and values, both nodes' outputs of `shape` [1, 1, ...].

    float32 by MaxUnpool, which makes its own zeros and checks every index; other types by ScatterElements.
    """
    size, axes = quantised.codes.size, len(shape) - 2
    own = (1, 1, *quantised.codes.shape) if scope.framed else quantised.codes.shape
    if quantised.dtype == np.float32:
        given = own if scope.framed else (1, 1, size, *[1] * (axes - 1))
        length = scope.constant("length", np.array(given, np.int64))
        flat = scope.add("MaxUnpool", [lifted, index, length], kernel_shape=[1] * axes, strides=[1] * axes)
        scope.state_shape(flat, np.float32, given)
        if scope.framed:
            return flat
    else:
        length = scope.constant("length", np.array([1, 1, size] + [1] * (axes - 1), np.int64))
        zero = numpy_helper.from_array(np.zeros(1, quantised.dtype), "value")
        zeros = scope.add("ConstantOfShape", [length], value=zero)
        if axes > 1:
            ends = scope.common(np.array([1, 1, -1] + [1] * (axes - 1), np.int64))
            index, lifted = (scope.add("Reshape", [part, ends]) for part in (index, lifted))
        flat = scope.add("ScatterElements", [zeros, index, lifted], axis=2)
    return scope.add("Reshape", [flat, scope.common(np.array(own, np.int64))])
