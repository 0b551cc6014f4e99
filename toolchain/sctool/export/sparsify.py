"""Sparse storage of an ONNX graph's weights: the last thing done to it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

from sctool.errors import ExportError
from sctool.export.assemble import StoredUnit, assemble
from sctool.export.codecs.choose import PLAIN, Budgets, Choice, Option, Rule, choose_codecs
from sctool.export.codecs.codec import PositionCodec, Quantised, ValueCodec
from sctool.export.codecs.registry import POSITIONS, VALUES
from sctool.export.codecs.scope import Scope
from sctool.export.manifest import LayerEntry
from sctool.export.stages import price_stage
from sctool.export.units import OPSET as UNIT_OPSET
from sctool.export.units import Unit, find_tables, form_units

MIN_SIZE = 1024
"""Smaller tensors stay dense: decoding costs some 0.1 to 0.5 ms each at load."""
MAX_BYTES = 2**30
"""ONNX Runtime folds no larger tensor when it makes a session: it would be decoded at every call."""
LOAD_BUDGET, MEMORY_BUDGET = 2.0, 1.5
SPLIT, SPLIT_RULES = VALUES["split"], ("auto", "small", "fast")
"""Exact like float32 and smaller, but slower to load."""
ALONE_RULES = ("dense", "coo", "ort")
"""Nothing is decoded by nodes."""
TYPES = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.INT8, TensorProto.UINT8)


@dataclass(frozen=True)
class Storage:
    """How weights are stored; see `choose_codecs` for `rule`. Value codecs other than float32 lose precision."""

    rule: Rule = "auto"
    values: str = "float32"
    load_budget: float = LOAD_BUDGET
    memory_budget: float = MEMORY_BUDGET


@dataclass(frozen=True)
class LayerSizes:
    """Bytes of one tensor by position codec, dense, and at the bound: n H(density) bits of positions, and the values."""

    name: str
    shape: list[int]
    density: float
    dense_bytes: int
    bound_bytes: float
    codec: str
    codec_bytes: dict[str, int]


@dataclass(frozen=True)
class SparseModel:
    """`sizes`: of each tensor that could be stored sparse, with every codec."""

    proto: onnx.ModelProto
    layers: list[LayerEntry]
    sizes: list[LayerSizes]


@dataclass(frozen=True)
class _Weight:
    tensor: TensorProto
    array: NDArray[Any]
    values: ValueCodec
    quantised: Quantised
    reason: str = ""

    @property
    def nnz(self) -> int:
        return int(np.count_nonzero(self.quantised.codes))


@dataclass
class _Encoded:
    """A unit by every pair of codecs that can hold it, by name: "rice", or "rice+split"."""

    unit: Unit
    scopes: dict[str, list[Scope]] = field(default_factory=dict)
    options: list[Option] = field(default_factory=list)
    member_bytes: dict[str, dict[str, int]] = field(default_factory=dict)

    def add(self, positions: PositionCodec, values: ValueCodec) -> None:
        scopes = self.unit.encode(positions, values)
        load_ns, left_bytes = self.unit.estimate_cost(positions, values)
        option = Option(
            positions.name, sum(scope.stored_bytes for scope in scopes), load_ns,
            SPLIT.name if values is SPLIT else PLAIN, left_bytes if any(scope.nodes for scope in scopes) else 0.0,
        )  # fmt: skip
        self.options.append(option)
        self.scopes[option.name] = scopes
        self.member_bytes[option.name] = self._share_bytes(scopes)

    def store(self, codec: str) -> StoredUnit:
        (option,) = (option for option in self.options if option.name == codec)
        return StoredUnit(self.scopes[codec], option.left_bytes, self.unit.framed and option.positions != "dense")

    def _share_bytes(self, scopes: list[Scope]) -> dict[str, int]:
        """Member -> bytes of its own part, and of what all have in common by how many values it has of them."""
        stored = self.unit.stored
        own = {scope.tensor: scope.stored_bytes for scope in scopes}
        common = sum(size for tensor, size in own.items() if tensor not in stored)
        return {
            tensor: own[tensor] + round(common * count / max(sum(stored.values()), 1))
            for tensor, count in stored.items()
        }


def sparsify_onnx(dense: onnx.ModelProto, storage: Storage | str = "auto") -> SparseModel:
    """A copy of `dense` with its large tensors in sparse storage, each decoded by nodes named after it or after its stack.

    `storage` may be the rule alone. Raises ExportError where the result is not valid ONNX.
    """
    plan = storage if isinstance(storage, Storage) else Storage(rule=storage)  # type: ignore[arg-type]
    opset = next((o.version for o in dense.opset_import if o.domain in ("", "ai.onnx")), 1)
    inputs = {value.name for value in dense.graph.input}
    weights = [_read_weight(t, plan, inputs) for t in dense.graph.initializer if t.data_type in TYPES]
    candidates = [name for name, codec in POSITIONS.items() if codec.opset <= opset and _offered(name, plan.rule)]
    split = plan.rule in SPLIT_RULES and opset >= SPLIT.opset
    encoded = [_encode(_stand_alone(w), ["dense"], split=False) for w in weights if w.reason]
    open_ = {w.tensor.name: w for w in weights if not w.reason}
    encoded += [_encode(unit, candidates, split) for unit in _form(open_, dense.graph, plan.rule, opset)]
    budgets = Budgets(plan.load_budget, plan.memory_budget, price_stage(len(dense.graph.node), opset))
    choices = choose_codecs(
        {each.unit.name: each.options for each in encoded}, plan.rule,
        elements=sum(w.array.size for w in weights), budgets=budgets,
    )  # fmt: skip
    proto = assemble(
        dense, {each.unit.name: each.store(choices[each.unit.name].name) for each in encoded}, budgets.stage_ns
    )
    _check(proto)
    own = {tensor: each for each in encoded for tensor in each.unit.members}
    pairs = [(w, own[w.tensor.name]) for w in weights]
    return SparseModel(
        proto,
        [_describe(w, each, choices[each.unit.name]) for w, each in pairs],
        [_compare(w, each, choices[each.unit.name]) for w, each in pairs if not w.reason],
    )


def _stand_alone(weight: _Weight) -> Unit:
    return Unit(weight.tensor.name, {weight.tensor.name: weight.quantised}, weight.values)


def _form(weights: dict[str, _Weight], graph: onnx.GraphProto, rule: str, opset: int) -> list[Unit]:
    if opset < UNIT_OPSET or rule in ALONE_RULES:
        return [_stand_alone(weight) for weight in weights.values()]
    quantised = {tensor: weight.quantised for tensor, weight in weights.items()}
    return form_units(quantised, {t: weight.values for t, weight in weights.items()}, find_tables(graph))


def _offered(name: str, rule: str) -> bool:
    return name != "coo" or rule in ("coo", "ort")


def _read_weight(tensor: TensorProto, plan: Storage, inputs: set[str]) -> _Weight:
    array = numpy_helper.to_array(tensor)
    exact = VALUES["float32"]
    as_is = exact.quantise(array)
    assert as_is is not None
    reason = ""
    if array.size < MIN_SIZE:
        reason = f"fewer than {MIN_SIZE} elements"
    elif array.nbytes > MAX_BYTES:
        reason = f"over {MAX_BYTES} bytes, which ONNX Runtime does not unfold at load"
    elif tensor.name in inputs:
        reason = "an input of the graph may replace it"
    lossy = None if reason or plan.values == "float32" else VALUES[plan.values].quantise(array)
    if lossy is not None:
        return _Weight(tensor, array, VALUES[plan.values], lossy)
    return _Weight(tensor, array, exact, as_is, reason)


def _encode(unit: Unit, candidates: list[str], split: bool) -> _Encoded:
    """`unit` by each of the position codecs `candidates`; with `split`, float32 as it is also by that value codec."""
    encoded = _Encoded(unit)
    as_is = unit.values.name == PLAIN and all(each.dtype == np.float32 for each in unit.members.values())
    for name in candidates:
        for values in [unit.values, SPLIT] if split and as_is else [unit.values]:
            if name != "coo" or values is not SPLIT:
                encoded.add(POSITIONS[name], values)
    return encoded


def _check(proto: onnx.ModelProto) -> None:
    """The full check; without shape inference where there are sparse initialisers, which it does not know."""
    try:
        onnx.checker.check_model(proto, full_check=not proto.graph.sparse_initializer)
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise ExportError(
            f"Cannot export to sparse ONNX: {type(error).__name__}: {reason}.",
            hint="Use --set export.codec=dense and report it.",
        ) from error


def _describe(weight: _Weight, encoded: _Encoded, choice: Choice) -> LayerEntry:
    codec, _, split = choice.name.partition("+")
    values = weight.values.name if weight.quantised.dtype == np.float32 else str(weight.quantised.dtype)
    return LayerEntry(
        name=weight.tensor.name, shape=list(weight.array.shape), size=weight.array.size, nnz=weight.nnz,
        density=weight.nnz / max(weight.array.size, 1), dense_bytes=weight.array.nbytes,
        stored_bytes=encoded.member_bytes[choice.name][weight.tensor.name], codec=codec,
        values=split or values,
        why=weight.reason or choice.why,
    )  # fmt: skip


def _compare(weight: _Weight, encoded: _Encoded, choice: Choice) -> LayerSizes:
    extra = [array.nbytes for array in (weight.quantised.table, weight.quantised.scale) if array is not None]
    return LayerSizes(
        weight.tensor.name, list(weight.array.shape), weight.nnz / weight.array.size, weight.array.nbytes,
        bound_bytes(weight.array.size, weight.nnz, weight.quantised.width) + sum(extra), choice.name,
        {codec: sizes[weight.tensor.name] for codec, sizes in encoded.member_bytes.items()},
    )  # fmt: skip


def bound_bytes(size: int, nnz: int, width: int) -> float:
    """Fewest bytes for a random mask: size * H(nnz / size) bits, and `width` bits for each value; at most dense."""
    density = nnz / size if size else 0.0
    entropy = 0.0 if density in (0.0, 1.0) else -density * np.log2(density) - (1 - density) * np.log2(1 - density)
    return float(min((size * entropy + nnz * width) / 8, size * width / 8))


def total(sizes: Iterable[LayerSizes], codec: str) -> int:
    """Bytes of all tensors with `codec`, dense where that is smaller."""
    return sum(min(layer.codec_bytes.get(codec, layer.dense_bytes), layer.dense_bytes) for layer in sizes)
