"""Exact float32 values in fewer bits: three bytes of sign and fraction, and the exponent's place among the few in use.

A network's weights use few exponents: two to four bits tell them apart where the format spends eight. A value is put
together as an integer of 24 bits times a power of two, both exact in float32. What has another exponent (NaN, infinities,
-0.0 and numbers below 2**-103 among it) is kept aside and set in at the end.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from sctool.export.codecs.bits import add_low_bits
from sctool.export.codecs.codec import Cost, Quantised
from sctool.export.codecs.scope import Scope

WIDTHS = (2, 3, 4)
ASIDE_BITS = 64
"""Of a value kept aside: its place and itself."""
_LOWEST = 24
"""Biased exponent from which on the power of two that scales the integer is a normal number."""
_ZERO = 0
HIDDEN = 0x80
FLOAT, INT16, INT32 = onnx.TensorProto.FLOAT, onnx.TensorProto.INT16, onnx.TensorProto.INT32


def choose_exponents(values: NDArray[np.float32]) -> tuple[NDArray[np.int64], int]:
    """(classes int64 [<= 2**w], w): the commonest biased exponents, rising; 0 stands for +0.0 alone."""
    kinds, counts = np.unique(classify(values), return_counts=True)
    usable = kinds >= 0
    order = np.argsort(-counts[usable], kind="stable")
    kinds, counts = kinds[usable][order], counts[usable][order]
    width = min(WIDTHS, key=lambda w: len(values) * w + ASIDE_BITS * (len(values) - int(counts[: 2**w].sum())))
    return np.sort(kinds[: 2**width]), width


def classify(values: NDArray[np.float32]) -> NDArray[np.int64]:
    """Biased exponent; 0 for +0.0; -1 where neither an integer times a power of two of normal numbers nor that."""
    bits = np.ascontiguousarray(values).view(np.uint32)
    exponents = ((bits >> 23) & 255).astype(np.int64)
    return np.where(bits == 0, _ZERO, np.where((exponents >= _LOWEST) & (exponents < 255), exponents, -1))


def are_normal(values: NDArray[np.float32]) -> bool:
    """Whether each is an integer of 24 bits, not 0, times a power of two that is a normal number."""
    return len(values) > 0 and bool((classify(values) > _ZERO).all())


def add_significands(scope: Scope, values: NDArray[np.float32]) -> str:
    """Store `values`, of scope.frame(rows, n), usable, of one exponent in each row; the nodes that give them back."""
    rows = values.shape[-2]
    bits = np.ascontiguousarray(values).view(np.uint32)
    exponents, places = np.unique(classify(values.reshape(rows, -1)[:, :1]), return_inverse=True)
    integer = _add_integers(scope, bits)
    which = scope.varints("exponents", places.reshape(scope.frame(rows, 1)), INT32)
    return scope.add("Mul", [integer, scope.add("Gather", [scope.constant("powers", _powers(exponents)), which])])


def _add_integers(scope: Scope, bits: NDArray[np.uint32]) -> str:
    """Sign and fraction of float32 with bits `bits`, as integers of magnitude 2**23 to 2**24, in float32.

    Such an integer is 65536 h + l, 0 <= l < 65536. Its h takes 9 bits, from -256 to -129 or 128 to 255: bit 7 is the sign's
    opposite, so it is left out of the byte that is stored, and put back by an exclusive or after the sign is extended.
    """
    magnitude = 0x800000 | (bits & 0x7FFFFF).astype(np.int64)
    integer = np.where(bits >> 31, -magnitude, magnitude)
    high, low = ((integer >> 16) ^ HIDDEN).astype(np.int8), (integer & 0xFFFF).astype(np.uint16)
    wide = scope.add("Cast", [scope.constant("high", high)], to=INT16)
    wide = scope.add("BitwiseXor", [wide, scope.common(np.array(HIDDEN, np.int16))])
    scaled = scope.add("Mul", [scope.add("Cast", [wide], to=FLOAT), scope.common(np.array(65536, np.float32))])
    return scope.add("Add", [scaled, scope.add("Cast", [scope.constant("low", low)], to=FLOAT)])


def _powers(exponents: NDArray[np.int64]) -> NDArray[np.float32]:
    """What an integer of 24 bits is multiplied with, by biased exponent; 0 for +0.0."""
    with np.errstate(under="ignore"):
        return np.where(exponents == _ZERO, 0.0, 2.0 ** (exponents - 150.0)).astype(np.float32)


class Split:
    """Lossless, as float32 is, in 26 to 28 bits a value."""

    name = "split"
    opset = 18
    cost = Cost(9.5e5, 0.0, 15.0, 0, 52)

    def quantise(self, tensor: NDArray[Any]) -> Quantised | None:
        return Quantised(tensor, 32, tensor.dtype) if tensor.dtype == np.float32 else None

    def restore(self, quantised: Quantised) -> NDArray[Any]:
        return quantised.codes

    def add_lift(self, scope: Scope, codes: NDArray[Any], shape: tuple[int, ...], quantised: Quantised) -> str:
        bits = np.ascontiguousarray(codes).view(np.uint32)
        exponents, width = choose_exponents(codes)
        classes = classify(codes)
        aside = np.flatnonzero(~np.isin(classes, exponents))
        places = np.minimum(np.searchsorted(exponents, classes), len(exponents) - 1 if len(exponents) else 0)
        integer = _add_integers(scope, bits.reshape(shape))
        powers = _powers(exponents)
        which = scope.add("Cast", [add_low_bits(scope, "exponents", places, width, shape)], to=INT32)
        power = scope.add("Gather", [scope.constant("powers", np.resize(powers, max(len(powers), 1))), which])
        whole = scope.add("Mul", [integer, power])
        return self._set_aside(scope, whole, aside, codes, shape) if len(aside) else whole

    def _set_aside(self, scope: Scope, whole: str, aside: Any, codes: NDArray[Any], shape: tuple[int, ...]) -> str:
        flat = scope.add("Reshape", [whole, scope.common(np.array([-1], np.int64))])
        index = scope.constant("aside", aside.astype(np.int32 if len(codes) < 2**31 else np.int64))
        flat = scope.add("ScatterElements", [flat, index, scope.constant("aside_values", codes[aside])], axis=0)
        return scope.add("Reshape", [flat, scope.common(np.array(shape, np.int64))])

    def add_lift_stored(self, scope: Scope, name: str, quantised: Quantised) -> str:
        return name
