"""Positions in rows of as many values, each a first position and gaps, as the varints that protobuf writes numbers in.

A number under 128 takes a byte, so no gap is too long and nothing is unpacked: one CumSum along the rows. What lies in the
rows need not rise from one row to the next. With `split`, each row therefore holds values of one exponent: where a value
is tells its exponent too, which is then a number a row, and takes no bits and no operations a value.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import onnx
from numpy.typing import NDArray

from sctool.export.codecs.codec import Cost, Quantised, ValueCodec
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


@dataclass(frozen=True)
class Layout:
    """A tensor's slots, rising, and the band that each is in; all in one where rows need not be of one exponent."""

    codes: NDArray[Any]
    slots: Slots
    bands: NDArray[np.int64]

    @property
    def counts(self) -> NDArray[np.int64]:
        return np.asarray(np.unique(self.bands, return_counts=True)[1])


def lay_out(quantised: Quantised, banded: bool) -> Layout:
    """Of `quantised`, in bands of one exponent each with `banded`."""
    slots = find_slots(quantised)
    codes = np.ascontiguousarray(quantised.codes).reshape(-1)
    return Layout(codes, slots, classify(codes[slots]) if banded else np.zeros(len(slots), np.int64))


def add_index(scope: Scope, placed: Slots, size: int) -> str:
    """Store `placed` [rows, length], flat positions below `size`; nodes give them back as int64 of its frame."""
    wide = size >= 2**31
    steps = np.diff(placed, axis=1, prepend=0).reshape(scope.frame(*placed.shape))
    axis = scope.common(np.array(-1, np.int64))
    index = scope.add("CumSum", [scope.varints("steps", steps, INT64 if wide else INT32), axis])
    return index if wide else scope.add("Cast", [index], to=INT64)


def choose_length(layout: Layout) -> int:
    """The row length of LENGTHS that wastes the fewest bytes, with no more places than the tensor has elements, which
    MaxUnpool asks for."""

    def waste(length: int) -> tuple[bool, int]:
        rows = -(-layout.counts // length)
        places = int(rows.sum()) * length
        return places > layout.codes.size, (places - len(layout.slots)) * VALUE_BYTES + int(rows.sum()) * ROW_BYTES

    return min(LENGTHS, key=waste)


class Rows:
    """A byte or two of position for each stored value."""

    name = "rows"
    opset = 11
    cost = Cost(1e5, 0.0, 12.0, 4, 20)
    lifts: ClassVar[Mapping[str, Cost]] = {"split": Cost(2.5e5, 0.0, 9.0, 0, 28)}

    def add_tensor(self, scope: Scope, quantised: Quantised, values: ValueCodec) -> str:
        banded = values.name == "split" and can_band(quantised)
        layout = lay_out(quantised, banded)
        placed = arrange(layout.slots, layout.bands, choose_length(layout))
        shape = scope.frame(*placed.shape)
        index = add_index(scope, placed, layout.codes.size)
        kept = layout.codes[placed.reshape(-1)]
        lifted = (
            add_significands(scope, kept.reshape(shape)) if banded else values.add_lift(scope, kept, shape, quantised)
        )
        return add_placement(scope, quantised, index, lifted, shape)


def can_band(quantised: Quantised) -> bool:
    """Whether every value has a place in a row of one exponent."""
    return quantised.dtype == np.float32 and are_normal(quantised.codes.reshape(-1)[find_slots(quantised)])
