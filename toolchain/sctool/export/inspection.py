"""What `sctool inspect` finds in one file: a model's inputs and outputs, its layers, and what runtimes do with its zeros."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from sctool.export.storage_rules import StorageRule

Shape = tuple[int | str | None, ...]
COUNTABLE = {
    "float64": "<u8", "float32": "<u4", "float16": "<u2", "bfloat16": "<u2", "int64": "<u8", "uint64": "<u8",
    "int32": "<u4", "uint32": "<u4", "int16": "<u2", "uint16": "<u2", "int8": "u1", "uint8": "u1", "bool": "u1",
}  # fmt: skip
"""dtype -> unsigned words of its size."""
_FLOATING = {"float64", "float32", "float16", "bfloat16"}


@dataclass(frozen=True)
class Port:
    """An input or output; None in a shape is a dimension that the caller chooses, a name likewise."""

    name: str
    dtype: str
    shape: Shape


@dataclass(frozen=True)
class LayerFinding:
    """One constant. nnz: None where its values could not be had (`note` says why). stored_bytes: of the file."""

    name: str
    role: str
    dtype: str
    shape: tuple[int, ...]
    nnz: int | None
    stored_bytes: int
    codec: str
    rule: str
    note: str = ""

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def density(self) -> float | None:
        return None if self.nnz is None else self.nnz / max(self.size, 1)


@dataclass(frozen=True)
class RuntimeFinding:
    """What `runtime` does with the zeros of so many layers, and the rule that decides."""

    runtime: str
    layers: int
    rule: StorageRule


@dataclass(frozen=True)
class Inspection:
    """`format`: onnx, pte, ptd, spte or bundle; `files`: of a bundle, each with its own."""

    path: str
    format: str
    size_bytes: int
    inputs: list[Port] = field(default_factory=list)
    outputs: list[Port] = field(default_factory=list)
    layers: list[LayerFinding] = field(default_factory=list)
    runtimes: list[RuntimeFinding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    files: list[Inspection] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        layers = [{**asdict(layer), "size": layer.size, "density": layer.density} for layer in self.layers]
        runtimes = [{**asdict(item), "says": str(item.rule)} for item in self.runtimes]
        files = [file.to_json() for file in self.files]
        return {**asdict(self), "layers": layers, "runtimes": runtimes, "files": files}


def count_nonzeros(data: memoryview | bytes, dtype: str) -> int | None:
    """Numbers in `data` that are not zero (-0.0 is); None for a dtype that does not come in whole bytes."""
    kind = COUNTABLE.get(dtype)
    if kind is None or len(data) % np.dtype(kind).itemsize:
        return None
    words = np.frombuffer(data, kind)
    magnitude = words << words.dtype.type(1) if dtype in _FLOATING else words
    return int(np.count_nonzero(magnitude))


def summarise_rules(runtime: str, rules: list[StorageRule]) -> list[RuntimeFinding]:
    """Each rule once, with the number of layers that it decides."""
    return [RuntimeFinding(runtime, rules.count(rule), rule) for rule in dict.fromkeys(rules)]
