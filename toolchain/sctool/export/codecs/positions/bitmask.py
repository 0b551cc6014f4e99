"""One bit for each element: set where a value is stored. The smallest near density 1/2."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import onnx

from sctool.export.codecs.bits import add_flags
from sctool.export.codecs.codec import Cost, Quantised, ValueCodec
from sctool.export.codecs.placement import add_values, find_slots
from sctool.export.codecs.scope import Scope


class Bitmask:
    """BitwiseAnd -> Compress picks the positions whose bit is set."""

    name = "bitmask"
    opset = 18
    cost = Cost(7e5, 1.0, 22.0, 11, 16)
    lifts: ClassVar[Mapping[str, Cost]] = {}

    def add_tensor(self, scope: Scope, quantised: Quantised, values: ValueCodec) -> str:
        slots = find_slots(quantised)
        flags = np.zeros(quantised.codes.size, bool)
        flags[slots] = True
        index = add_compress(scope, add_flags(scope, "bitmask", flags), len(flags) + -len(flags) % 8, 1, len(slots))
        ones = scope.common(np.array(scope.frame(-1), np.int64))
        wide = scope.add("Cast", [scope.add("Reshape", [index, ones])], to=onnx.TensorProto.INT64)
        return add_values(scope, quantised, slots, wide, values)


def add_compress(scope: Scope, flags: str, length: int, step: int, count: int) -> str:
    """step * i, int32 [count] (int64 where that is too small), of each i < length whose flag is set: `count` of them."""
    dtype = np.int32 if length * step < 2**31 else np.int64
    ends = [scope.common(np.array(end, dtype)) for end in (0, step)]
    numbers = scope.add("Range", [ends[0], scope.constant("stop", np.array(length * step, dtype)), ends[1]])
    chosen = scope.add("Compress", [numbers, flags], axis=0)
    scope.state_shape(chosen, dtype, (count,))
    return chosen
