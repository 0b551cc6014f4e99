"""What stores a tensor: a position codec says where the values are, a value codec what they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from sctool.export.codecs.scope import Scope


@dataclass(frozen=True)
class Quantised:
    """codes: of the tensor's shape, code 0 is +0.0 and nothing else is; width: bits that a code takes when stored.

    dtype: of the tensor that the nodes give back. table: float32 [T], what the codes stand for; scale: float32,
    multiplied at the end, of a shape that broadcasts over the tensor; None where there is no such step.
    """

    codes: NDArray[Any]
    width: int
    dtype: np.dtype[Any]
    table: NDArray[np.float32] | None = None
    scale: NDArray[np.float32] | None = None


class ValueCodec(Protocol):
    """What is stored of each value. Zeros stay zeros."""

    name: str
    opset: int
    """The lowest that its nodes need."""
    load_ns: tuple[float, float]
    """CPU time at load, ns a tensor and a stored value (x86 host, one thread); see benchmarks/storage.py."""

    def quantise(self, tensor: NDArray[Any]) -> Quantised | None:
        """The codes of `tensor`; None where this codec cannot hold it."""
        ...

    def restore(self, quantised: Quantised) -> NDArray[Any]:
        """What the nodes give: the numpy oracle."""
        ...

    def add_lift(self, scope: Scope, codes: NDArray[Any], shape: tuple[int, ...], quantised: Quantised) -> str:
        """Store `codes` [n] and add the nodes that turn them into values of `shape`, of n elements; their name."""
        ...

    def add_lift_stored(self, scope: Scope, name: str, quantised: Quantised) -> str:
        """The same for codes that are in the graph already, a number each."""
        ...


class PositionCodec(Protocol):
    """Where the codes other than 0 are. Decodes any shape, bit for bit."""

    name: str
    opset: int
    load_ns: tuple[float, float, float]
    """CPU time at load, ns a tensor, an element and a stored value (x86 host, one thread)."""
    lifts_ns: ClassVar[Mapping[str, tuple[float, float]]]
    """Value codec -> its `load_ns` with these positions, where that is another than on its own."""

    def add_tensor(self, scope: Scope, quantised: Quantised, values: ValueCodec) -> str:
        """Store `quantised` and add the nodes that give the dense tensor, unscaled; its name."""
        ...
