"""Positions as Golomb-Rice coded gaps (Golomb 1966, Rice 1979): the smallest for random masks, within 1 % of the bound.

A gap g (zeros between two values) is q = g >> k in unary and k low bits r. With b_i the place of the i-th unary stop, the
i-th position is 2**k b_i - sum_{j <= i} (2**k - 1 - r_j): so the complements of r are stored, and no count is needed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import onnx

from sctool.export.codecs.bits import add_flags, add_unpack
from sctool.export.codecs.codec import Cost, Quantised, ValueCodec
from sctool.export.codecs.placement import Slots, add_values, find_slots, pad_slots
from sctool.export.codecs.positions.bitmask import add_compress
from sctool.export.codecs.scope import Scope

WIDTHS = (1, 2, 4, 8)
"""Low bits that fill bytes without a rest."""


def choose_width(slots: Slots) -> int:
    """The k of WIDTHS with the fewest bits."""
    gaps = np.diff(slots, prepend=-1) - 1
    return min(WIDTHS, key=lambda k: int((gaps >> k).sum()) + len(gaps) * (1 + k))


def encode_positions(slots: Slots, k: int) -> tuple[np.ndarray, np.ndarray]:
    """(unary bits bool [T], complements of the low bits uint8 [n]) of rising positions [n]."""
    gaps = np.diff(slots, prepend=-(2**k)) - 1
    stops = np.cumsum((gaps >> k) + 1) - 1
    unary = np.zeros(stops[-1] + 1, bool)
    unary[stops] = True
    return unary, (2**k - 1 - (gaps & (2**k - 1))).astype(np.uint8)


def decode_positions(unary: np.ndarray, complements: np.ndarray, k: int) -> Slots:
    """What encode_positions was given, gap by gap: the slow oracle."""
    positions, place, position = [], 0, -(2**k)
    for complement in complements:
        start = place
        while not unary[place]:
            place += 1
        position += ((place - start) << k) + (2**k - 1 - int(complement)) + 1
        positions.append(position)
        place += 1
    return np.array(positions, np.int64)


class Rice:
    """Two streams of bits: unary quotients, and remainders of fixed width."""

    name = "rice"
    opset = 18
    cost = Cost(4.9e5, 0.0, 30.0, 4, 37)
    lifts: ClassVar[Mapping[str, Cost]] = {}

    def add_tensor(self, scope: Scope, quantised: Quantised, values: ValueCodec) -> str:
        slots = find_slots(quantised)
        k = choose_width(slots)
        padded = pad_slots(slots, quantised.codes.size, 8 // k)
        if len(padded) % (8 // k) == 0:
            slots = padded
        unary, complements = encode_positions(slots, k)
        flags = add_flags(scope, "unary", unary)
        stops = add_compress(scope, flags, len(unary) + -len(unary) % 8, 2**k, len(slots))
        low = add_unpack(scope, "low_bits", complements, k, scope.frame(len(slots)))
        wide = len(unary) + 8 >= 2**31 >> k
        dtype = onnx.TensorProto.INT64 if wide else onnx.TensorProto.INT32
        lost = scope.add("CumSum", [scope.add("Cast", [low], to=dtype), scope.common(np.array(-1, np.int64))])
        if scope.framed:
            stops = scope.add("Reshape", [stops, scope.common(np.array(scope.frame(len(slots)), np.int64))])
        index = scope.add("Sub", [stops, lost])
        index = index if wide else scope.add("Cast", [index], to=onnx.TensorProto.INT64)
        return add_values(scope, quantised, slots, index, values)
