"""Positions in rows of as many values, each a first position and gaps, as the varints that protobuf writes numbers in.

A number under 128 takes a byte, so no gap is too long and nothing is unpacked: one CumSum along the rows. What lies in the
rows need not rise from one row to the next. With `split`, each row therefore holds values of one exponent: where a value
is tells its exponent too, which is then a number a row, and takes no bits and no operations a value.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import onnx
from numpy.typing import NDArray

from sctool.export.codecs.codec import Quantised, ValueCodec
from sctool.export.codecs.placement import Slots, add_placement, find_slots
from sctool.export.codecs.scope import Scope
from sctool.export.codecs.values.split import add_significands, are_normal, classify

LENGTHS = (1, 8, 16, 32, 64, 128, 256)
VALUE_BYTES, ROW_BYTES = 4, 3
"""What a place that fills a row takes, and what a row's exponent and longer first number add: to choose among LENGTHS."""
INT32, INT64 = onnx.TensorProto.INT32, onnx.TensorProto.INT64


def arrange(slots: Slots, bands: NDArray[np.int64], length: int) -> Slots:
    """int64 [rows, length]: `slots` [n], rising, by band; a band's last row is filled with its last slot."""
    rows = []
    for band in np.unique(bands):
        own = slots[bands == band]
        rows.append(np.pad(own, (0, -len(own) % length), mode="edge").reshape(-1, length))
    return np.concatenate(rows)


def choose_length(bands: NDArray[np.int64], size: int) -> int:
    """The row length of LENGTHS that wastes the fewest bytes, of those with no more places than the tensor's `size`."""
    counts = np.unique(bands, return_counts=True)[1]

    def waste(length: int) -> int:
        rows = -(-counts // length)
        return int((rows * length - counts).sum()) * VALUE_BYTES + int(rows.sum()) * ROW_BYTES

    fitting = [length for length in LENGTHS if int((-(-counts // length)).sum()) * length <= size]
    return min(fitting, key=waste)


class Rows:
    """A byte or two of position for each stored value."""

    name = "rows"
    opset = 11
    load_ns = (1.5e5, 0.0, 14.0)
    lifts_ns: ClassVar[Mapping[str, tuple[float, float]]] = {"split": (2e5, 15.0)}

    def add_tensor(self, scope: Scope, quantised: Quantised, values: ValueCodec) -> str:
        slots = find_slots(quantised)
        codes = np.ascontiguousarray(quantised.codes).reshape(-1)
        banded = values.name == "split" and are_normal(codes[slots])
        bands = classify(codes[slots]) if banded else np.zeros(len(slots), np.int64)
        placed = arrange(slots, bands, choose_length(bands, codes.size))
        shape = (1, 1, *placed.shape)
        wide = codes.size >= 2**31
        steps = np.diff(placed, axis=1, prepend=0)
        index = scope.add("CumSum", [scope.varints("steps", steps.reshape(shape), INT64 if wide else INT32),
                                     scope.common(np.array(3, np.int64))])  # fmt: skip
        index = index if wide else scope.add("Cast", [index], to=INT64)
        kept = codes[placed.reshape(-1)]
        lifted = (
            add_significands(scope, kept.reshape(shape)) if banded else values.add_lift(scope, kept, shape, quantised)
        )
        return add_placement(scope, quantised, index, lifted, shape)
