"""The ONNX files of a bundle: one a precision, each through the passes, then stored sparse."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import onnx
import torch
from torch import nn

from sctool.atomic import write_file
from sctool.domain.artifact import Precision
from sctool.domain.config import ExportConfig
from sctool.export.manifest import FileEntry, LayerEntry, PassEntry
from sctool.export.onnx import export_onnx, serialise_onnx
from sctool.export.passes.graph_pass import run_passes
from sctool.export.passes.registry import PASSES
from sctool.export.precision import lower_precision
from sctool.export.sizes import bound_size, gzip_size
from sctool.export.sparsify import MEMORY_BUDGET, SparseModel, Storage, sparsify_onnx
from sctool.export.storage_rules import ORT_DENSE, ORT_FOLDS, ORT_SPARSE_INITIALISER, StorageRule
from sctool.workflows.executorch_files import describe_file, name_file
from sctool.workflows.export_records import ExportRecords

ANY_BATCH = 2**20
PASS_RECORDS = 16
"""Records that the passes are held against; the parity gate takes many more."""
CALIBRATION_RECORDS = 1024
DENSE_NOTE = "stored and computed dense"
NOTE = "stored sparse, computed dense: ONNX Runtime unfolds the weights when it loads the file"


@dataclass(frozen=True)
class OnnxFile:
    """`dense` is the same graph with every zero written out."""

    name: str
    precision: Precision
    dense: onnx.ModelProto
    packed: SparseModel


@dataclass(frozen=True)
class OnnxFiles:
    """In the order of the config's precisions, float32 first; `removed`: what the passes took away."""

    files: list[OnnxFile]
    removed: list[PassEntry]

    @property
    def plain(self) -> OnnxFile:
        """The float32 file."""
        return self.files[0]

    @property
    def layers(self) -> list[LayerEntry]:
        return [layer for file in self.files for layer in file.packed.layers]

    @property
    def sizes(self) -> dict[str, int]:
        """Bytes of what ships, and of the float32 graph at the bound and packed by hand."""
        dense = serialise_onnx(self.plain.dense)
        return {
            "gzip_dense_onnx_bytes": gzip_size(dense), "bound_onnx_bytes": bound_size(dense, self.plain.packed.sizes),
            **{_size_key(file.precision): len(serialise_onnx(file.packed.proto)) for file in self.files},
        }  # fmt: skip


def build_onnx(settings: ExportConfig, model: nn.Module, records: ExportRecords) -> OnnxFiles:
    """The run's `model` as ONNX in float32 and every other precision of `settings`; nothing is written.

    The passes are held against the parity records. Raises ExportError where one fails.
    """
    exported = export_onnx(model, torch.from_numpy(records.parity[:2]), max_batch=ANY_BATCH)
    dense, removed = run_passes(exported, [PASSES[name] for name in settings.passes], records.parity[:PASS_RECORDS])
    plain = Storage(settings.codec, "float32", settings.load_budget, settings.memory_budget or MEMORY_BUDGET)
    files = [_pack("float32", dense, replace(plain, values=settings.values))]
    lower = [precision for precision in settings.precisions if precision != "float32"]
    for precision in lower:
        lowered = lower_precision(dense, precision, records.calibration[:CALIBRATION_RECORDS])
        files.append(_pack(precision, lowered, plain))
    return OnnxFiles(files, [PassEntry(**vars(record)) for record in removed])


def write_onnx(folder: Path, built: OnnxFiles, note: str) -> dict[str, FileEntry]:
    """Write all files into `folder`; file name -> entry of the manifest, with `note`."""
    entries = {}
    for file in built.files:
        path = folder / file.name
        write_file(path, serialise_onnx(file.packed.proto))
        codec = "+".join(sorted({layer.codec for layer in file.packed.layers}))
        rounded = sorted({layer.values for layer in file.packed.layers} - {file.precision, "float32", "split"})
        stored = DENSE_NOTE if all(layer.codec == "dense" for layer in file.packed.layers) else NOTE
        told = f"{stored}. {'Values as ' + ', '.join(rounded) + '. ' if rounded and file is built.plain else ''}{note}"
        entries[file.name] = describe_file(
            path, "onnx", "onnxruntime", codec, told.strip(), _rule(file.packed), file.precision
        )
    return entries


def _size_key(precision: Precision) -> str:
    return "onnx_bytes" if precision == "float32" else f"{precision}_onnx_bytes"


def _pack(precision: Precision, dense: onnx.ModelProto, storage: Storage) -> OnnxFile:
    name = name_file(precision, "onnx")
    packed = sparsify_onnx(dense, storage)
    layers = [layer.model_copy(update={"file": name}) for layer in packed.layers]
    return OnnxFile(name, precision, dense, SparseModel(packed.proto, layers, packed.sizes))


def _rule(packed: SparseModel) -> StorageRule:
    if packed.proto.graph.sparse_initializer:
        return ORT_SPARSE_INITIALISER
    return ORT_FOLDS if any(layer.codec != "dense" for layer in packed.layers) else ORT_DENSE
