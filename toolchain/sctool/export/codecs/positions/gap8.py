"""Positions as uint8 gaps: Cast -> CumSum. The fastest to load, about a byte a value.

Every gap is at most 255: a longer one is bridged by explicit zeros.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import onnx

from sctool.export.codecs.codec import Cost, Quantised, ValueCodec
from sctool.export.codecs.placement import Slots, add_values, find_slots
from sctool.export.codecs.scope import Scope

LONGEST = 255


def bridge_gaps(slots: Slots) -> Slots:
    """`slots` with a position more in every stretch of over LONGEST, as often as it takes; from 0 on."""
    distance = np.diff(slots, prepend=0)
    bridges = np.maximum(distance - 1, 0) // LONGEST
    last = np.cumsum(bridges + 1) - 1
    gaps = np.full(last[-1] + 1, LONGEST, np.int64)
    gaps[last] = distance - bridges * LONGEST
    return np.asarray(np.cumsum(gaps))


class Gap8:
    """One byte of position for each stored value."""

    name = "gap8"
    opset = 11
    cost = Cost(1.5e5, 0.0, 8.0, 4, 16)
    lifts: ClassVar[Mapping[str, Cost]] = {}

    def add_tensor(self, scope: Scope, quantised: Quantised, values: ValueCodec) -> str:
        slots = bridge_gaps(find_slots(quantised))
        gaps = np.diff(slots, prepend=0).astype(np.uint8)
        wide = scope.add(
            "Cast", [scope.constant("gaps", gaps.reshape(scope.frame(len(gaps))))], to=onnx.TensorProto.INT64
        )
        index = scope.add("CumSum", [wide, scope.common(np.array(-1, np.int64))])
        return add_values(scope, quantised, slots, index, values)
