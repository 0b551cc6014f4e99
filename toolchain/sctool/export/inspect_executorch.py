"""What a program (.pte), a data file (.ptd) or a sparse package (.spte) holds. Nothing of them is executed."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from sctool.export.inspection import (
    COUNTABLE,
    Inspection,
    LayerFinding,
    Port,
    RuntimeFinding,
    count_nonzeros,
    summarise_rules,
)
from sctool.export.storage_rules import PACKAGE, PORTABLE, XNNPACK, StorageRule, rule_of_backend
from sctool.formats.blob import GAPS, SPLIT, BlobHeader, decode_blob
from sctool.formats.damage import reading
from sctool.formats.ptd import DataBlock, read_ptd
from sctool.formats.pte import Method, TensorSpec, Weight, read_program
from sctool.formats.spte import KIND, PackedBlock, read_spte

RUNTIME = "executorch"
MOST_METHODS = 64
Fetch = Callable[[Weight], tuple[memoryview | bytes | None, int, str]]
"""A weight -> its bytes (None where they are not to be had), the bytes stored for it, how."""


def inspect_pte(content: bytes, where: str, data: bytes | None = None, data_where: str = "") -> Inspection:
    """Of a program, with the data file that its weights may lie in. ArtifactError where either is damaged."""
    beside = {block.key: block for block in read_ptd(data, data_where).blocks} if data else {}

    def fetch(weight: Weight) -> tuple[memoryview | bytes | None, int, str]:
        if weight.data is not None:
            return weight.data, weight.size, "dense"
        block = beside.get(weight.key)
        if block is None or data is None or block.size < weight.size:
            return None, 0, "elsewhere"
        return memoryview(data)[block.offset : block.offset + weight.size], weight.size, f"dense, in {data_where}"

    found = _inspect_program(content, where, fetch, None)
    size = len(content) + (len(data) if data else 0)
    return Inspection(where, "pte", size, *found)


def inspect_spte(content: bytes, where: str) -> Inspection:
    """Of a sparse package: every block is decoded. ArtifactError where it is damaged."""
    package = read_spte(content, where)
    blocks = {block.key: block for block in package.blocks}

    def fetch(weight: Weight) -> tuple[memoryview | bytes | None, int, str]:
        if weight.data is not None:
            return weight.data, weight.size, "dense"
        block = blocks.get(weight.key)
        if block is None:
            return None, 0, "elsewhere"
        with reading(where, KIND):
            return decode_blob(block.header, block.streams)[: weight.size], len(block.streams), _name_codec(block)

    found = _inspect_program(bytes(package.program), where, fetch, PACKAGE)
    found[4].append(f"unpacks to a program of {len(package.program)} bytes and a data file of {package.data_bytes}")
    return Inspection(where, "spte", len(content), *found)


def inspect_ptd(content: bytes, where: str) -> Inspection:
    """Of a data file alone: its blocks. ArtifactError where it is damaged."""
    layers = []
    for block in read_ptd(content, where).blocks:
        dtype, shape, note = _guess(block)
        nnz = count_nonzeros(memoryview(content)[block.offset : block.offset + block.size], dtype)
        layers.append(LayerFinding(block.key, "block", dtype, shape, nnz, block.size, "dense", "", note))
    notes = ["weights alone: the program (.pte) that names them says what a runtime does"]
    return Inspection(where, "ptd", len(content), layers=layers, notes=notes)


def _guess(block: DataBlock) -> tuple[str, tuple[int, ...], str]:
    if block.dtype:
        return block.dtype, block.shape, ""
    dtype, word = ("float32", 4) if block.size % 4 == 0 else ("uint8", 1)
    return dtype, (block.size // word,), f"the file gives no type: counted as {dtype}"


def _inspect_program(
    content: bytes, where: str, fetch: Fetch, rule: StorageRule | None
) -> tuple[list[Port], list[Port], list[LayerFinding], list[RuntimeFinding], list[str]]:
    """Inputs, outputs, layers, runtimes and notes; with a `rule` that stands for that of XNNPACK."""
    program = read_program(content, where)
    notes: list[str] = []
    if len(program.methods) != 1:
        notes.append(
            f"{len(program.methods)} methods: {', '.join(m.name[:40] for m in program.methods[:MOST_METHODS])}"
        )
    layers: list[LayerFinding] = []
    rules: list[StorageRule] = []
    for method in program.methods[:MOST_METHODS]:
        for backend, weights in _by_backend(method):
            decides = rule_of_backend(backend) if backend else PORTABLE
            decides = rule if rule and backend == "XnnpackBackend" else decides
            for weight in weights:
                layers.append(_describe(weight, fetch, decides, len(layers)))
                rules.append(decides)
        for delegate in method.delegates:
            if not delegate.weights:
                notes.append(
                    f"{delegate.backend or 'an unnamed backend'}: {delegate.payload_bytes} bytes, {_tell(delegate.backend)}"
                )
        if method.delegates and method.operators:
            notes.append(f"run outside delegates: {', '.join(sorted(set(method.operators))[:12])}")
    missing = sum(layer.codec == "elsewhere" for layer in layers)
    if missing:
        notes.append(f"{missing} of its weights lie in a data file (.ptd) that is not there: it does not run by itself")
    first = program.methods[0] if program.methods else None
    inputs = [_port(f"input {n}", spec) for n, spec in enumerate(first.inputs)] if first else []
    outputs = [_port(f"output {n}", spec) for n, spec in enumerate(first.outputs)] if first else []
    return inputs, outputs, layers, summarise_rules(RUNTIME, rules), notes


def _tell(backend: str) -> str:
    rule = rule_of_backend(backend)
    return "which hold no weights" if rule is XNNPACK else str(rule)


def _by_backend(method: Method) -> list[tuple[str, list[Weight]]]:
    return [*((delegate.backend, delegate.weights) for delegate in method.delegates), ("", method.weights)]


def _describe(weight: Weight, fetch: Fetch, rule: StorageRule, number: int) -> LayerFinding:
    data, stored, codec = fetch(weight)
    nnz, note = _count(data, weight)
    return LayerFinding(
        f"constant {number}", weight.role, weight.dtype, weight.shape, nnz, stored, codec, rule.name, note
    )


def _count(data: memoryview | bytes | None, weight: Weight) -> tuple[int | None, str]:
    """(non-zeros or None, why they are not known)."""
    if data is None:
        return None, "its values are not in this file"
    if weight.dtype not in COUNTABLE:
        return None, f"{weight.dtype} is not counted"
    if len(data) != math.prod(weight.shape) * np.dtype(COUNTABLE[weight.dtype]).itemsize:
        return None, f"its {len(data)} bytes do not fit its shape"
    return count_nonzeros(data, weight.dtype), ""


def _port(name: str, spec: TensorSpec) -> Port:
    """ExecuTorch keeps the bound of a dynamic dimension, not which it is: the first, as all exporters have it."""
    shape: tuple[int | str | None, ...] = spec.shape
    if spec.dynamic and shape:
        shape = (f"<= {shape[0]}", *shape[1:])
    return Port(name, spec.dtype, shape)


def _name_codec(block: PackedBlock) -> str:
    header: BlobHeader = block.header
    parts = ["rice" if header.positions == GAPS else "dense", *(["split"] if header.values == SPLIT else [])]
    return "+".join(parts)
