"""What a layer takes in the sparse runtime and in XNNPACK, from a table that is made once for each instruction set.

native/costs/ISA.toml, written by benchmarks/runtime_costs.py, which measures nanoseconds; or, where no such processor is at
hand, by benchmarks/emulated_costs.py, which counts instructions: `unit` says which, and "ns" in a name here means that unit.
A kind's rows hold, at some numbers of output pixels, the cost of one multiply-accumulate and of one input that is read or
copied; between rows both are interpolated in the logarithm of the pixels, beyond them they are those of the nearest row.
"""

from __future__ import annotations

import functools
import math
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

LayerKind = Literal["linear", "pointwise", "spatial", "depthwise"]
Way = Literal["sparse", "dense", "xnnpack"]
_FOLDER = Path(__file__).resolve().parent / "costs"


@dataclass(frozen=True)
class LayerWork:
    """One layer for one record: non-zeros and size of its weight, output pixels (1 of a linear layer), kernel width,
    elements of its input and output."""

    kind: LayerKind
    nnz: int
    size: int
    pixels: int
    kernel_width: int
    inputs: int
    outputs: int


@dataclass(frozen=True)
class _Row:
    pixels: int
    ns_per_mac: float
    ns_per_input: float


@dataclass(frozen=True)
class CostTable:
    """`measured_on` says where, `unit` ("ns" or "instructions") what the numbers are; `boundary_ns` is a call of another
    backend, `boundary_ns_per_float` what crosses."""

    isa: str
    measured_on: str
    boundary_ns: float
    boundary_ns_per_float: float
    rows: dict[str, tuple[_Row, ...]]
    unit: Literal["ns", "instructions"] = "ns"

    def microseconds(self, cost: float) -> float | None:
        """`cost` as a time; None where it is infinite, or counted and no time at all."""
        return cost / 1000 if self.unit == "ns" and math.isfinite(cost) else None

    def layer_ns(self, work: LayerWork, way: Way) -> float:
        """The time of one record; infinite where that way has no kernel for it."""
        rows = self.rows.get(f"{way}_{work.kind}")
        if rows is None:
            return math.inf
        per_mac, per_input = _interpolate(rows, work.pixels)
        macs = (work.nnz if way == "sparse" else work.size) * work.pixels
        return macs * per_mac + work.inputs * work.kernel_width * per_input

    def nonzero_ns(self, work: LayerWork) -> float:
        """What one more non-zero of a sparse layer takes."""
        rows = self.rows.get(f"sparse_{work.kind}") or self.rows["sparse_spatial"]
        return _interpolate(rows, work.pixels)[0] * work.pixels


def _interpolate(rows: tuple[_Row, ...], pixels: int) -> tuple[float, float]:
    if pixels <= rows[0].pixels:
        return rows[0].ns_per_mac, rows[0].ns_per_input
    for low, high in zip(rows, rows[1:], strict=False):
        if pixels <= high.pixels:
            share = math.log(pixels / low.pixels) / math.log(high.pixels / low.pixels)
            return (
                low.ns_per_mac + share * (high.ns_per_mac - low.ns_per_mac),
                low.ns_per_input + share * (high.ns_per_input - low.ns_per_input),
            )
    return rows[-1].ns_per_mac, rows[-1].ns_per_input


def list_tables() -> list[str]:
    """The instruction sets that have a table."""
    return sorted(path.stem for path in _FOLDER.glob("*.toml"))


@functools.cache
def load_costs(isa: str) -> CostTable:
    """The table of `isa`; KeyError where there is none."""
    path = _FOLDER / f"{isa}.toml"
    if not path.is_file():
        raise KeyError(f"no cost table of {isa}; there are {', '.join(list_tables())}")
    record = tomllib.loads(path.read_text(encoding="utf-8"))
    rows = {
        name: tuple(_Row(int(row[0]), float(row[1]), float(row[2])) for row in table)
        for name, table in record["rows"].items()
    }
    return CostTable(
        isa, record["measured_on"], float(record["boundary_ns"]), float(record["boundary_ns_per_float"]), rows,
        record.get("unit", "ns"),
    )  # fmt: skip
