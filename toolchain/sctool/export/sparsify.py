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
from sctool.export.assemble import StoredTensor, assemble
from sctool.export.codecs.choose import PLAIN, Budgets, Choice, Option, Rule, choose_codecs
from sctool.export.codecs.codec import PositionCodec, Quantised, ValueCodec
from sctool.export.codecs.encode import encode_tensor
from sctool.export.codecs.registry import POSITIONS, VALUES
from sctool.export.codecs.scope import Scope
from sctool.export.manifest import LayerEntry
from sctool.export.stages import OPSET

MIN_SIZE = 1024
"""Smaller tensors stay dense: decoding costs some 0.1 to 0.5 ms each at load."""
MAX_BYTES = 2**30
"""ONNX Runtime folds no larger tensor when it makes a session: it would be decoded at every call."""
LOAD_BUDGET, MEMORY_BUDGET = 2.0, 1.5
SPLIT, SPLIT_RULES = VALUES["split"], ("auto", "small", "fast")
"""Exact like float32 and smaller, but slower to load."""
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


@dataclass
class _Weight:
    tensor: TensorProto
    array: NDArray[Any]
    values: ValueCodec
    quantised: Quantised
    reason: str = ""
    encoded: dict[str, Scope] = field(default_factory=dict)
    options: list[Option] = field(default_factory=list)

    @property
    def nnz(self) -> int:
        return int(np.count_nonzero(self.quantised.codes))


def sparsify_onnx(dense: onnx.ModelProto, storage: Storage | str = "auto") -> SparseModel:
    """A copy of `dense` with its large tensors in sparse storage, each decoded by nodes named after it.

    `storage` may be the rule alone. Raises ExportError where the result is not valid ONNX.
    """
    plan = storage if isinstance(storage, Storage) else Storage(rule=storage)  # type: ignore[arg-type]
    opset = next((o.version for o in dense.opset_import if o.domain in ("", "ai.onnx")), 1)
    inputs = {value.name for value in dense.graph.input}
    weights = [_read_weight(t, plan, inputs) for t in dense.graph.initializer if t.data_type in TYPES]
    candidates = [name for name, codec in POSITIONS.items() if codec.opset <= opset and _offered(name, plan.rule)]
    for weight in weights:
        for name in ["dense"] if weight.reason else candidates:
            _encode(weight, POSITIONS[name], weight.values)
            if weight.values.name == PLAIN and plan.rule in SPLIT_RULES and opset >= SPLIT.opset and not weight.reason:
                _encode(weight, POSITIONS[name], SPLIT)
    elements = sum(w.array.size for w in weights)
    options = {w.tensor.name: w.options for w in weights}
    budgets = Budgets(plan.load_budget, plan.memory_budget, staged=opset >= OPSET)
    choices = choose_codecs(options, plan.rule, elements=elements, budgets=budgets)
    assembled = assemble(dense, {w.tensor.name: _store(w, choices[w.tensor.name].name) for w in weights}, opset)
    _check(assembled.proto)
    return SparseModel(
        assembled.proto,
        [_describe(w, choices[w.tensor.name], assembled.stored_bytes[w.tensor.name]) for w in weights],
        [_compare(w, choices[w.tensor.name]) for w in weights if not w.reason],
    )


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


def _encode(weight: _Weight, positions: PositionCodec, values: ValueCodec) -> None:
    """Try one pair of codecs; a tensor that the value codec cannot hold is left as it is."""
    quantised = weight.quantised if values is weight.values else values.quantise(weight.array)
    if quantised is None or (positions.name == "coo" and values is SPLIT):
        return
    scope = encode_tensor(weight.tensor.name, quantised, positions, values)
    stored = weight.nnz if positions.name != "dense" else weight.array.size
    costs = positions.cost, positions.lifts.get(values.name, values.cost)
    load_ns, left_bytes = map(sum, zip(*(cost.take(weight.array.size, stored) for cost in costs), strict=True))
    option = Option(
        positions.name, scope.stored_bytes, load_ns, SPLIT.name if values is SPLIT else PLAIN,
        left_bytes if scope.nodes else 0.0,
    )  # fmt: skip
    weight.options.append(option)
    weight.encoded[option.name] = scope


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


def _store(weight: _Weight, codec: str) -> StoredTensor:
    (left_bytes,) = (option.left_bytes for option in weight.options if option.name == codec)
    return StoredTensor(codec, weight.encoded[codec], weight.quantised, left_bytes)


def _describe(weight: _Weight, choice: Choice, stored_bytes: int) -> LayerEntry:
    codec, _, split = choice.name.partition("+")
    values = weight.values.name if weight.quantised.dtype == np.float32 else str(weight.quantised.dtype)
    return LayerEntry(
        name=weight.tensor.name, shape=list(weight.array.shape), size=weight.array.size, nnz=weight.nnz,
        density=weight.nnz / max(weight.array.size, 1), dense_bytes=weight.array.nbytes,
        stored_bytes=stored_bytes, codec=codec,
        values=split or values,
        why=weight.reason or choice.why,
    )  # fmt: skip


def _compare(weight: _Weight, choice: Choice) -> LayerSizes:
    extra = [array.nbytes for array in (weight.quantised.table, weight.quantised.scale) if array is not None]
    return LayerSizes(
        weight.tensor.name, list(weight.array.shape), weight.nnz / weight.array.size, weight.array.nbytes,
        bound_bytes(weight.array.size, weight.nnz, weight.quantised.width) + sum(extra), choice.name,
        {name: scope.stored_bytes for name, scope in weight.encoded.items()},
    )  # fmt: skip


def bound_bytes(size: int, nnz: int, width: int) -> float:
    """Fewest bytes for a random mask: size * H(nnz / size) bits, and `width` bits for each value; at most dense."""
    density = nnz / size if size else 0.0
    entropy = 0.0 if density in (0.0, 1.0) else -density * np.log2(density) - (1 - density) * np.log2(1 - density)
    return float(min((size * entropy + nnz * width) / 8, size * width / 8))


def total(sizes: Iterable[LayerSizes], codec: str) -> int:
    """Bytes of all tensors with `codec`, dense where that is smaller."""
    return sum(min(layer.codec_bytes.get(codec, layer.dense_bytes), layer.dense_bytes) for layer in sizes)
