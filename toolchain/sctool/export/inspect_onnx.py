"""What an ONNX file holds: its constants, how each is stored, and what ONNX Runtime does with its zeros."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import TensorProto, numpy_helper

from sctool.errors import ArtifactError
from sctool.export.constant_graph import ConstantTensor, find_constants
from sctool.export.count_constants import count_constants
from sctool.export.inspection import Inspection, LayerFinding, Port, Shape, count_nonzeros, summarise_rules
from sctool.export.storage_rules import (
    ORT_DENSE,
    ORT_FOLDS,
    ORT_QUANTISED,
    ORT_SPARSE_INITIALISER,
    ORT_SPARSE_OPERATOR,
    ORT_UNFOLDED,
    StorageRule,
)
from sctool.export.units import FRAME, STACK
from sctool.native.library import DOMAIN, OPERATOR

RUNTIME = "onnxruntime"
FOLDING_LIMIT = 2**30
MIN_SIZE = 2
"""Constants of fewer elements (axes, shapes, scalars) are no layers."""
_SIGNATURES = {
    "gaps": "gap8", "unary": "rice", "low_bits": "rice", "mask": "bitmask", "flags": "bitmask", "bits": "bitmask",
    "bitmask": "bitmask", "gaps0": "pfor", "steps": "rows",
}  # fmt: skip
"""Ending of a stored part's name -> the codec that writes it; the first that fits names it."""
_PLACES = {("MatMul", 1): "weight", ("Gemm", 1): "weight", ("Conv", 1): "weight", ("ConvTranspose", 1): "weight",
           ("Gemm", 2): "bias", ("Conv", 2): "bias", ("ConvTranspose", 2): "bias", ("Gather", 0): "table"}  # fmt: skip


def inspect_onnx(path: Path) -> Inspection:
    """Of an ONNX file. ArtifactError where it is none, or too large for protobuf.

    Nodes that decode constants are executed, in a process of its own with limits; nothing else is.
    """
    size = path.stat().st_size
    if size >= 2**31:
        raise ArtifactError(
            f"{path} has {size} bytes; ONNX files end at 2 GiB.", hint="Save its weights as external data."
        )
    try:
        model = onnx.load(path, load_external_data=False)
        if not model.graph.node and not model.graph.output:
            raise ValueError("it holds no graph")
        _check_names(model)
        found = find_constants(model.graph)
    except (DecodeError, OSError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())[:160]
        raise ArtifactError(f"{path} is no readable ONNX model: {reason}.", hint="Export it again.") from error
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    sparse = {tensor.values.name: tensor for tensor in model.graph.sparse_initializer}
    decoded = count_constants(path, [tensor.name for tensor in found if tensor.nodes])
    layers, rules = [], []
    sizes = _share_bytes(model, found, stored, sparse, decoded)
    for tensor, held in zip(found, sizes, strict=True):
        layer, rule = _describe(path, model, tensor, stored, sparse, decoded, held)
        if tensor.name != FRAME and (layer.size >= MIN_SIZE or layer.nnz is None):
            layers.append(layer)
            rules.append(rule)
    programs = _sparse_programs(model.graph)
    rules += [ORT_SPARSE_OPERATOR] * len(programs)
    return Inspection(
        str(path), "onnx", size, list(_ports(model.graph.input, set(stored))), list(_ports(model.graph.output, set())),
        layers, summarise_rules(RUNTIME, rules), _note(model) + programs,
    )  # fmt: skip


def _sparse_programs(graph: onnx.GraphProto) -> list[str]:
    """Each node of the sparse runtime, told."""
    return [
        f"{node.name or OPERATOR}: a program of the sparse runtime, {_payload_bytes(node)} bytes; ONNX Runtime runs it with "
        f"our operator library alone"
        for node in graph.node
        if (node.domain, node.op_type) == (DOMAIN, OPERATOR)
    ]


def _payload_bytes(node: onnx.NodeProto) -> int:
    return sum(len(attribute.s) for attribute in node.attribute)


def _check_names(model: onnx.ModelProto) -> None:
    """ValueError where a name is not UTF-8: protobuf then gives bytes in place of text."""
    graph = model.graph
    constants = [*graph.initializer, *(tensor.values for tensor in graph.sparse_initializer)]
    texts = [
        *(text for node in graph.node for text in (node.op_type, node.domain, *node.input, *node.output)),
        *(text for tensor in constants for text in (tensor.name, *_entries(tensor))),
        *(
            text
            for value in (*graph.input, *graph.output, *graph.value_info)
            for text in (value.name, *_dimensions(value))
        ),
        *(opset.domain for opset in model.opset_import),
    ]
    if not all(isinstance(text, str) for text in texts):
        raise ValueError("one of its names is not UTF-8")


def _entries(tensor: TensorProto) -> list[str]:
    return [text for entry in tensor.external_data for text in (entry.key, entry.value)]


def _dimensions(value: onnx.ValueInfoProto) -> list[str]:
    return [dim.dim_param for dim in value.type.tensor_type.shape.dim]


def _note(model: onnx.ModelProto) -> list[str]:
    opsets = ", ".join(f"{opset.domain or 'ai.onnx'} {opset.version}" for opset in model.opset_import)
    kinds = sorted({node.op_type for node in model.graph.node})
    shown = ", ".join(kinds[:16]) + (", ..." if len(kinds) > 16 else "")
    return [f"opset {opsets}, IR version {model.ir_version}, {len(model.graph.node)} nodes: {shown}"]


def _describe(
    path: Path, model: onnx.ModelProto, tensor: ConstantTensor, stored: dict[str, TensorProto],
    sparse: dict[str, onnx.SparseTensorProto], decoded: dict[str, dict[str, object]], size: int,
) -> tuple[LayerFinding, StorageRule]:  # fmt: skip
    part = _PLACES.get((tensor.reader, tensor.place), "constant")
    role = f"{tensor.reader} {part}"
    own = stored.get(tensor.name)
    if own is not None and not tensor.nodes:
        nnz, note = _count_initialiser(path, own)
        rule = ORT_DENSE
        layer = LayerFinding(
            tensor.name, role, _dtype(own.data_type), tuple(own.dims), nnz, size, "dense", rule.name, note
        )
        return layer, rule
    if tensor.name in sparse:
        values, rule = sparse[tensor.name], ORT_SPARSE_INITIALISER
        nnz, note = _count_initialiser(path, values.values)
        dtype = _dtype(values.values.data_type)
        return LayerFinding(tensor.name, role, dtype, tuple(values.dims), nnz, size, "coo", rule.name, note), rule
    answer = decoded.get(tensor.name)
    kinds = list(dict.fromkeys(model.graph.node[number].op_type for number in tensor.nodes))
    if answer is None:
        shape, dtype = _declared(model.graph, tensor.name)
        codec, rule = _name_codec(tensor, kinds, sparse), ORT_FOLDS
        note = "its decoding nodes could not be evaluated within 120 s and 8 GiB"
        return LayerFinding(tensor.name, role, dtype, shape, None, size, codec, rule.name, note), rule
    shape = tuple(answer["shape"])  # type: ignore[arg-type]
    if FRAME in stored and tensor.reader == "Gather" and shape[:2] == (1, 1):
        shape = shape[2:]  # as `units` stores a table
    rule = _choose_rule(tensor, kinds, stored, sparse, shape, str(answer["dtype"]))
    codec = "dense" if rule is ORT_DENSE else _name_codec(tensor, kinds, sparse)
    nnz = int(answer["nnz"])  # type: ignore[call-overload]
    return LayerFinding(tensor.name, role, str(answer["dtype"]), shape, nnz, size, codec, rule.name), rule


def _share_bytes(
    model: onnx.ModelProto, found: list[ConstantTensor], stored: dict[str, TensorProto],
    sparse: dict[str, onnx.SparseTensorProto], decoded: dict[str, dict[str, object]],
) -> list[int]:  # fmt: skip
    """Bytes that each of `found` follows from. What several are decoded from is shared out by their non-zeros."""
    weights = [1 + int(str(decoded.get(tensor.name, {}).get("nnz", 0))) for tensor in found]
    parts: list[list[str | int]] = [[*tensor.stored, *tensor.nodes] for tensor in found]
    readers: dict[str | int, int] = {}
    for own, weight in zip(parts, weights, strict=True):
        for part in own:
            readers[part] = readers.get(part, 0) + weight

    def measure(part: str | int) -> int:
        if isinstance(part, int):
            return _attribute_bytes(model.graph.node[part])
        own = _stored_bytes(stored[part]) if part in stored else 0
        return own + (sparse[part].ByteSize() if part in sparse else 0)

    held = {part: measure(part) for part in readers}
    return [
        round(sum(held[part] * weight / readers[part] for part in own))
        for own, weight in zip(parts, weights, strict=True)
    ]


def _choose_rule(
    tensor: ConstantTensor, kinds: list[str], stored: dict[str, TensorProto],
    sparse: dict[str, onnx.SparseTensorProto], shape: tuple[int, ...], dtype: str,
) -> StorageRule:  # fmt: skip
    elements = math.prod(shape)
    if any(name in sparse for name in tensor.stored):
        return ORT_SPARSE_INITIALISER
    parts = [stored[name] for name in tensor.stored if name in stored]
    whole = any(math.prod(part.dims) == elements and part.data_type != TensorProto.BOOL for part in parts)
    if "DequantizeLinear" in kinds and whole:
        return ORT_QUANTISED
    if whole or elements < MIN_SIZE or not tensor.stored:
        return ORT_DENSE
    over = elements * np.dtype(dtype).itemsize > FOLDING_LIMIT
    return ORT_UNFOLDED if over else ORT_FOLDS


def _name_codec(tensor: ConstantTensor, kinds: list[str], sparse: dict[str, onnx.SparseTensorProto]) -> str:
    if any(name in sparse for name in tensor.stored):
        return "coo"
    for name in tensor.stored:
        known = _SIGNATURES.get(name.rpartition("/")[2])
        if known and name.startswith((f"{tensor.name}/", STACK)):
            return known
    return "decoded by " + "+".join(kinds[:6]) + ("+..." if len(kinds) > 6 else "")


def _count_initialiser(path: Path, tensor: TensorProto) -> tuple[int | None, str]:
    """(non-zeros or None, why not). Held against its declared shape before it is read."""
    elements = math.prod(tensor.dims)
    dtype = _dtype(tensor.data_type)
    if tensor.data_location == TensorProto.EXTERNAL:
        data, why = _read_external(path, tensor)
        return (None, why) if data is None else (count_nonzeros(data, dtype), "")
    if any(extent < 0 for extent in tensor.dims) or elements > 2**31:
        return None, f"a shape of {list(tensor.dims)}"
    if tensor.HasField("raw_data"):
        data = tensor.raw_data
        if len(data) * 2 < elements:
            return None, f"{len(data)} bytes for {elements} elements"
        return count_nonzeros(data, dtype), ""
    try:
        return int(np.count_nonzero(numpy_helper.to_array(tensor))), ""
    except (ValueError, TypeError, KeyError) as error:
        return None, " ".join(str(error).split())[:120]


def _read_external(path: Path, tensor: TensorProto) -> tuple[bytes | None, str]:
    """Bytes that lie in a file beside `path`; none from outside its folder or through a link."""
    entries = {entry.key: entry.value for entry in tensor.external_data}
    place = path.parent / entries.get("location", "")
    if place.parent.resolve() != path.parent.resolve() or place.is_symlink() or not place.is_file():
        return None, f"in {entries.get('location', '')[:60]!r}, which is not a file beside the model"
    try:
        offset, length = int(entries.get("offset", "0")), int(entries.get("length", "-1"))
        size = place.stat().st_size
        length = size - offset if length < 0 else length
        if not 0 <= offset <= offset + length <= size:
            raise ValueError(f"{offset} + {length} of {size} bytes")
        with place.open("rb") as stream:
            stream.seek(offset)
            return stream.read(length), ""
    except (OSError, ValueError) as error:
        return None, f"in {place.name!r}: {error}"


def _stored_bytes(tensor: TensorProto) -> int:
    if tensor.data_location == TensorProto.EXTERNAL:
        length = {entry.key: entry.value for entry in tensor.external_data}.get("length", "0")
        return int(length) if length.isdecimal() and len(length) < 16 else 0
    return len(tensor.raw_data) if tensor.HasField("raw_data") else tensor.ByteSize()


def _attribute_bytes(node: onnx.NodeProto) -> int:
    """Of tensors that a node holds in itself, as Constant does."""
    held = [attribute for attribute in node.attribute if attribute.HasField("t") or attribute.HasField("sparse_tensor")]
    return sum(_stored_bytes(a.t) if a.HasField("t") else a.sparse_tensor.ByteSize() for a in held)


def _dtype(number: int) -> str:
    try:
        name = str(TensorProto.DataType.Name(number)).lower()
    except ValueError:
        return "?"
    return {"float": "float32", "double": "float64"}.get(name, name)


def _declared(graph: onnx.GraphProto, name: str) -> tuple[tuple[int, ...], str]:
    for value in graph.value_info:
        if value.name == name:
            shape = tuple(max(dim.dim_value, 0) for dim in value.type.tensor_type.shape.dim)
            return shape, _dtype(value.type.tensor_type.elem_type)
    return (), "?"


def _ports(values: object, constants: set[str]) -> Iterator[Port]:
    for value in values:  # type: ignore[attr-defined]
        if value.name in constants:
            continue
        kind = value.type.tensor_type
        shape: Shape = tuple(
            dim.dim_value if dim.HasField("dim_value") else dim.dim_param or None for dim in kind.shape.dim
        )
        yield Port(value.name, _dtype(kind.elem_type), shape)
