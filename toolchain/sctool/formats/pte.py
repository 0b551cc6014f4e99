"""ExecuTorch programs (.pte): methods, delegates and where the weights lie (schema/program.fbs, ET12)."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from sctool.formats.damage import reading
from sctool.formats.flatbuffer import Buffer, Table
from sctool.formats.ptd import SCALAR_TYPES
from sctool.formats.xnnpack import BACKEND, Constant, read_constants

_TENSOR = 5
"""Number of Tensor in the union of values."""


@dataclass(frozen=True)
class TensorSpec:
    """What a method takes or gives. A dynamic size is its upper bound."""

    dtype: str
    shape: tuple[int, ...]
    dynamic: bool


@dataclass(frozen=True)
class Weight:
    """A constant that lies in the program itself, or outside it. `data` is None there; `key` its name in named data."""

    key: str
    role: str
    dtype: str
    shape: tuple[int, ...]
    size: int
    data: memoryview | None


@dataclass(frozen=True)
class Delegate:
    """A part of a method that a backend runs. `payload_bytes`: what the program stores for it."""

    backend: str
    payload_bytes: int
    weights: list[Weight]


@dataclass(frozen=True)
class Method:
    name: str
    inputs: list[TensorSpec]
    outputs: list[TensorSpec]
    operators: list[str]
    delegates: list[Delegate]
    weights: list[Weight]


@dataclass(frozen=True)
class Program:
    methods: list[Method]

    @property
    def weights(self) -> list[Weight]:
        """Of all methods and their delegates, each block of data once."""
        found: dict[object, Weight] = {}
        for method in self.methods:
            for weight in [*method.weights, *(w for delegate in method.delegates for w in delegate.weights)]:
                found.setdefault(weight.key or id(weight), weight)
        return list(found.values())

    @property
    def missing(self) -> list[str]:
        """Names of the weights that must come from a data file."""
        return [weight.key for weight in self.weights if weight.data is None]


def is_pte(content: bytes) -> bool:
    return content[4:8] in (b"ET12", b"ET13")


class _Data:
    """Where the bytes of a program are: in its segments, by number and by name, or inside the flatbuffer."""

    def __init__(self, content: bytes, root: Table) -> None:
        self._content = memoryview(content)
        self._base = struct.unpack_from("<Q", content, 24)[0] if content[8:12] == b"eh00" else 0
        self._segments = [(t.number(0, "Q"), t.number(1, "Q")) for t in root.tables(4)]
        self.named = {t.text(0): t.number(1) for t in root.tables(7)}
        self._inline = root.tables(3)
        self._buffers = root.tables(2)
        constant = root.table(5)
        self._constant = (constant.number(0), constant.numbers(1, "Q")) if constant else (0, [])

    def segment(self, number: int) -> memoryview:
        offset, size = self._segments[number]
        if self._base + offset + size > len(self._content):
            raise ValueError(f"segment {number} leaves the file")
        return self._content[self._base + offset : self._base + offset + size]

    def payload(self, location: int, index: int) -> memoryview:
        return self.segment(index) if location == 1 else self._inline[index].data(0)

    def constant(self, index: int, size: int) -> memoryview:
        number, offsets = self._constant
        block = self.segment(number)[offsets[index] :] if offsets else self._buffers[index].data(0)
        if len(block) < size:
            raise ValueError(f"constant {index} is shorter than its shape says")
        return block[:size]


def read_program(content: bytes, where: str) -> Program:
    """The program's methods. ArtifactError where an offset, a size or a shape does not fit the file."""
    with reading(where, "ExecuTorch program (.pte)"):
        if not is_pte(content):
            raise ValueError("it says neither ET12 nor ET13")
        root = Buffer(content).root()
        data = _Data(content, root)
        return Program([_read_method(plan, data) for plan in root.tables(1)])


def _read_method(plan: Table, data: _Data) -> Method:
    values = plan.tables(2)
    delegates = [_read_delegate(entry, data) for entry in plan.tables(7)]
    operators = [".".join(filter(None, (t.text(0), t.text(1)))) for t in plan.tables(6)]
    weights = [weight for value in values if (weight := _read_weight(value, data)) is not None]
    return Method(
        plan.text(0), [_read_spec(values[i]) for i in plan.numbers(3, "i")],
        [_read_spec(values[i]) for i in plan.numbers(4, "i")], operators, delegates, weights,
    )  # fmt: skip


def _read_tensor(value: Table) -> Table | None:
    return value.table(1) if value.number(0, "B") == _TENSOR else None


def _read_spec(value: Table) -> TensorSpec:
    tensor = _read_tensor(value)
    if tensor is None:
        return TensorSpec("scalar", (), False)
    dtype = SCALAR_TYPES.get(tensor.number(0, "b"), "?")
    return TensorSpec(dtype, tuple(tensor.numbers(2, "i")), tensor.number(8, "b") != 0)


def _read_weight(value: Table, data: _Data) -> Weight | None:
    """A tensor of the program with data of its own; None for all other values."""
    tensor = _read_tensor(value)
    if tensor is None:
        return None
    spec, extra, index = _read_spec(value), tensor.table(9), tensor.number(5)
    name = extra.text(1) if extra else ""
    size = _count_bytes(spec)
    if extra and extra.number(2, "b") == 1:
        return Weight(name, "constant", spec.dtype, spec.shape, size, None)
    if index == 0 or tensor.table(6) is not None:
        return None
    return Weight(name, "constant", spec.dtype, spec.shape, size, data.constant(index, size))


def _count_bytes(spec: TensorSpec) -> int:
    size = {"float64": 8, "int64": 8, "uint64": 8, "float16": 2, "bfloat16": 2, "int16": 2, "uint16": 2, "uint8": 1,
            "int8": 1, "bool": 1}.get(spec.dtype, 4)  # fmt: skip
    for extent in spec.shape:
        if extent < 0:
            raise ValueError(f"a tensor of shape {list(spec.shape)}")
        size *= extent
    return size


def _read_delegate(entry: Table, data: _Data) -> Delegate:
    backend, reference = entry.text(0), entry.table(1)
    if reference is None:
        raise ValueError(f"delegate {backend[:40]!r} has no data")
    payload = data.payload(reference.number(0, "b"), reference.number(1))
    constants = read_constants(payload) if backend == BACKEND else []
    return Delegate(backend, len(payload), [_find(constant, data) for constant in constants])


def _find(constant: Constant, data: _Data) -> Weight:
    block: memoryview | None
    if not constant.key:
        block = constant.data
    elif constant.key in data.named:
        block = data.segment(data.named[constant.key])
        if len(block) < constant.size:
            raise ValueError(f"block {constant.key[:40]!r} is shorter than its layer says")
        block = block[: constant.size]
    else:
        block = None
    return Weight(constant.key, constant.role, constant.dtype, constant.shape, constant.size, block)
