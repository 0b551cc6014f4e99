"""Positions as gaps of fixed width with patches (PFOR-Delta: Zukowski et al., ICDE 2006): near rice, faster to load.

k bits hold a gap's rest modulo 2**k; a list of patches, itself in gaps of a byte, adds 2**k to the gap that it names, as
often as it is too long. Position 0 always has a value, so that an exclusive sum needs no offset.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import onnx
from onnx import numpy_helper

from sctool.export.codecs.bits import add_low_bits
from sctool.export.codecs.codec import Cost, Quantised, ValueCodec
from sctool.export.codecs.placement import Slots, add_values, find_slots, pad_slots
from sctool.export.codecs.scope import Scope

WIDTHS = (3, 4, 5, 6, 8)
PATCH_BITS = 8
INT32 = onnx.TensorProto.INT32


def choose_width(gaps: Slots) -> int:
    """The k of WIDTHS with the fewest bits."""
    return min(WIDTHS, key=lambda k: len(gaps) * k + int((gaps >> k).sum()) * PATCH_BITS)


class Pfor:
    """Low bits of the gaps in one or two planes, and what the long ones lack."""

    name = "pfor"
    opset = 18
    cost = Cost(8e5, 0.0, 12.0, 4, 32)
    lifts: ClassVar[Mapping[str, Cost]] = {}

    def add_tensor(self, scope: Scope, quantised: Quantised, values: ValueCodec) -> str:
        size = quantised.codes.size
        slots = pad_slots(find_slots(quantised), size, 8, begin=True)
        gaps = np.append(np.diff(slots) - 1, 0)
        k = choose_width(gaps)
        low = add_low_bits(scope, "gaps", gaps, k, scope.frame(len(gaps)))
        wide = size >= 2**31
        dtype = onnx.TensorProto.INT64 if wide else INT32
        one = scope.common(np.array(1, np.int64 if wide else np.int32))
        steps = scope.add("Add", [scope.add("Cast", [low], to=dtype), one])
        steps = add_patches(scope, "patch", steps, gaps >> k, 2**k, np.int64 if wide else np.int32)
        index = scope.add("CumSum", [steps, scope.common(np.array(-1, np.int64))], exclusive=1)
        index = index if wide else scope.add("Cast", [index], to=onnx.TensorProto.INT64)
        return add_values(scope, quantised, slots, index, values)


def add_patches(scope: Scope, suffix: str, steps: str, times: Slots, amount: int, dtype: type) -> str:
    """`steps`, scope.frame(n), with times[i] * amount added to the i-th."""
    where = np.repeat(np.arange(len(times)), times)
    if len(where) == 0:
        return steps
    gaps = np.diff(where, prepend=0)
    shape = scope.frame(len(gaps))
    if gaps.max() < 256:
        listed = scope.add("Cast", [scope.constant(f"{suffix}_gaps", gaps.astype(np.uint8).reshape(shape))], to=INT32)
    else:
        low = scope.constant(f"{suffix}_gaps", (gaps & 255).astype(np.uint8).reshape(shape))
        long = np.repeat(np.arange(len(gaps)), gaps >> 8).astype(np.int32)
        long = long.reshape(scope.frame(len(long)))
        listed = _add_constant(scope, scope.add("Cast", [low], to=INT32), scope.constant(f"{suffix}_long", long), long.shape,
                               np.array(256, np.int32))  # fmt: skip
    index = scope.add("CumSum", [listed, scope.common(np.array(-1, np.int64))])
    return _add_constant(scope, steps, index, shape, np.array(amount, dtype))


def _add_constant(scope: Scope, numbers: str, index: str, shape: tuple[int, ...], amount: np.ndarray) -> str:
    """`numbers` with `amount` added at each place that `index`, of `shape`, names."""
    length = scope.common(np.array(shape, np.int64))
    raised = scope.add("ConstantOfShape", [length], value=numpy_helper.from_array(amount.reshape(1), "value"))
    return scope.add("ScatterElements", [numbers, index, raised], axis=-1, reduction="add")
