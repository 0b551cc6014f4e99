"""From a run to a bundle: fold, export, sparsify last, reload what was written, hold it against eager."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from sctool import __version__
from sctool.atomic import new_directory, refuse_existing
from sctool.domain.artifact import Precision
from sctool.domain.config import ExportConfig
from sctool.domain.target import load_target
from sctool.errors import ArtifactError, ConfigError, ExportError, NativeRuntimeMissing
from sctool.export.coreml import export_core_ml
from sctool.export.handover import write_handover
from sctool.export.manifest import FILE as MANIFEST
from sctool.export.manifest import (
    BackendEntry,
    DocumentEntry,
    FileEntry,
    Manifest,
    ModelKind,
    ParityEntry,
    TensorEntry,
    write_manifest,
)
from sctool.export.model_card import write_model_card
from sctool.export.onnx import export_onnx, serialise_onnx
from sctool.export.parity import compare_logits
from sctool.export.passes.batch_norm import fold_batch_norm
from sctool.export.sbom import write_sbom
from sctool.export.signature import SigningKey
from sctool.export.sizes import tabulate_sizes
from sctool.resources import suggest
from sctool.runtimes.eager import EagerSession
from sctool.runtimes.registry import open_session
from sctool.workflows.executorch_files import write_executorch
from sctool.workflows.export_records import read_export_records
from sctool.workflows.onnx_files import ANY_BATCH, OnnxFiles, build_onnx, write_onnx
from sctool.workflows.progress import Progress, ignore_progress
from sctool.workflows.run_directory import DENSE, MASKS, MODEL, Run, load_run_model, read_run, read_tensors
from sctool.workflows.sparse_onnx import write_sparse_onnx

ROUNDED = {"float16": "float16", "int8": "int8", "codebook256": "int8", "codebook16": "int8"}
"""How model.onnx stores its values -> the precision whose parity limits hold."""


def export(
    run_path: Path,
    *,
    target: str | None = None,
    model: ModelKind = "sparse",
    backend: Literal["xnnpack", "sparse"] | None = None,
    output: Path | None = None,
    overwrite: bool = False,
    codec: str | None = None,
    precisions: Sequence[str] | None = None,
    key: SigningKey | None = None,
    progress: Progress = ignore_progress,
) -> tuple[Path, dict[str, Any]]:
    """Write the bundle of a run for `target` (default: the run's config) and return its path and manifest; with a `key`,
    sign it. `model`: what the search ended with, or the dense baseline, to compare or where it will do. `codec` and
    `precisions` override the run's export.codec and export.precisions.

    `backend` "sparse" puts the .pte's layers where that pays on our runtime, and writes model.sparse.onnx, which does the
    same in ONNX Runtime (default: the config's, else what the target's delegate says). NativeRuntimeMissing where that is
    not built: what was written could not be loaded again. Raises ArtifactError for a damaged run, ConfigError for an
    unknown target, codec or precision, and for the sparse backend without float32, which it computes in; ExportError
    where a model cannot be exported or where a written file, loaded again, does not answer as eager PyTorch does. Same
    run and settings, same bytes.
    """
    run = read_run(run_path)
    settings = _override(run.config.export, codec, precisions)
    if (backend or settings.backend) == "sparse" and "float32" not in settings.precisions:
        raise ConfigError(
            f"The sparse backend computes in float32; the precisions are {', '.join(settings.precisions)}.",
            hint="Add float32 to --precision, or take --backend xnnpack.",
        )
    device_target = load_target(target or settings.target)
    folder = output or run_path / "bundles" / (device_target.name + ("-dense" if model == "dense" else ""))
    refuse_existing(folder, overwrite=overwrite, marker=MANIFEST)
    torch.set_num_threads(1)
    given = read_export_records(run)
    records = given.parity
    weights = DENSE if model == "dense" else MODEL
    _check_zeros(run)
    reference = EagerSession(load_run_model(run, weights)).run(records)
    folded, note = fold_batch_norm(load_run_model(run, weights))
    example = torch.from_numpy(records[:2])
    with new_directory(folder, overwrite=overwrite, marker=MANIFEST) as staging:
        progress(0, 4, "exporting ONNX")
        built = build_onnx(settings, folded, given)
        dense_bytes = _dense_baseline_bytes(run, example)
        written = write_onnx(staging, built, note)
        progress(1, 4, "exporting ExecuTorch")
        sparse_runtime = (backend or settings.backend or device_target.delegate) == "sparse"
        executorch, backends = write_executorch(
            staging,
            settings,
            folded,
            example,
            note,
            given.calibration,
            package=settings.sparse_package and model == "sparse",
            sparse_for=device_target if sparse_runtime else None,
        )
        beside: dict[str, FileEntry] = {}
        if sparse_runtime:
            beside, more = write_sparse_onnx(
                staging, folded, example, note, max_batch=settings.max_batch, target=device_target
            )
            backends = backends + more
        progress(2, 4, "comparing with eager")
        files = {**written, **beside, **executorch}
        rounded = {built.plain.name: ROUNDED.get(settings.values, "float32")}
        parity = {
            name: _check_parity(run, staging / name, rounded.get(name, entry.precision), records, reference)
            for name, entry in files.items()
        }
        sizes = {
            "dense_onnx_bytes": len(dense_bytes),
            **built.sizes,
            **{_size_key(name): entry.size_bytes for name, entry in {**beside, **executorch}.items()},
        }
        manifest = _manifest(run, device_target.name, model, files, built, backends, sizes, parity, reference.shape[1])
        write_sbom(staging, manifest)
        core_ml = _core_ml(staging, folded, example) if device_target.platform == "ios" else None
        write_handover(staging, device_target, manifest, core_ml)
        manifest = manifest.model_copy(update={"documents": _list_documents(staging, manifest)})
        write_manifest(staging, manifest)
        write_model_card(staging, manifest, None)
        if key:
            key.sign(staging, manifest)
        progress(4, 4, "exported")
    return folder, manifest.model_dump(mode="json")


def plan_export(run_path: Path, *, codec: str | None = None, precisions: Sequence[str] | None = None) -> dict[str, Any]:
    """What `export` would write as ONNX, and the table of its sizes; nothing is written. Raises as `export` does."""
    run = read_run(run_path)
    torch.set_num_threads(1)
    given = read_export_records(run)
    _check_zeros(run)
    folded, note = fold_batch_norm(load_run_model(run))
    built = build_onnx(_override(run.config.export, codec, precisions), folded, given)
    return {
        "run": str(run_path), "note": note, "passes": [entry.model_dump() for entry in built.removed],
        "onnx": {
            file.name: tabulate_sizes(
                serialise_onnx(file.dense), file.packed, len(serialise_onnx(file.packed.proto))
            )
            for file in built.files
        },
    }  # fmt: skip


def _override(settings: ExportConfig, codec: str | None, precisions: Sequence[str] | None) -> ExportConfig:
    """What was named instead of the run's settings; each precision once. ConfigError for an unknown codec or precision."""
    given: dict[str, Any] = {}
    if codec is not None:
        given["codec"] = _known(codec, "codec", get_args(ExportConfig.model_fields["codec"].annotation))
    if precisions is not None:
        given["precisions"] = [_known(name, "precision", get_args(Precision)) for name in dict.fromkeys(precisions)]
        if not precisions:
            raise ConfigError("No precision was named.", hint=f"Name some of {', '.join(get_args(Precision))}.")
    return settings.model_copy(update=given)


def _known(name: str, what: str, known: Sequence[str]) -> str:
    if name not in known:
        raise ConfigError(f"Unknown {what} {name!r}.", hint=suggest(name, list(known)))
    return name


def _core_ml(staging: Path, model: torch.nn.Module, example: torch.Tensor) -> str:
    """Write ios/model.mlpackage where that can be done; says what became of it."""
    package = staging / "ios" / "model.mlpackage"
    try:
        package.parent.mkdir()
        sparse = export_core_ml(model, example, package)
    except (NativeRuntimeMissing, ExportError) as error:
        return f"not exported. {error}"
    return (
        f"`ios/model.mlpackage`, {sparse} tensors stored as a bitmask and their non-zeros, computed as Core ML likes."
    )


def _check_zeros(run: Run) -> None:
    """Every weight outside the run's masks must be zero: what ships is what was selected."""
    weights, masks = read_tensors(run.path / "model.safetensors"), read_tensors(run.path / MASKS)
    for name, mask in masks.items():
        if name not in weights or weights[name].shape != mask.shape or bool(weights[name][~mask.bool()].any()):
            raise ArtifactError(
                f"{run.path}: weight {name!r} does not fit its mask.", hint="Run `sctool compress` again."
            )


def _dense_baseline_bytes(run: Run, example: torch.Tensor) -> bytes:
    folded, _ = fold_batch_norm(load_run_model(run, DENSE))
    return serialise_onnx(export_onnx(folded, example, max_batch=ANY_BATCH))


def _check_parity(
    run: Run, path: Path, precision: str, records: NDArray[np.float32], reference: NDArray[np.float32]
) -> ParityEntry:
    max_abs_error, min_top1_agreement = parity_gate(run.config.export, precision, reference)
    parity = compare_logits(reference, open_session(path).run(records))
    if not parity.holds(max_abs_error, min_top1_agreement):
        raise ExportError(
            f"{path.name} lost parity with eager on {parity.records} records: max abs error {parity.max_abs_error:.3g} "
            f"(limit {max_abs_error:.3g}), top-1 agreement {parity.top1_agreement:.4f} "
            f"(limit {min_top1_agreement:g}).",
            hint=_suggest_step(precision),
        )
    return ParityEntry(**vars(parity))


def _suggest_step(precision: str) -> str:
    if precision == "float32":
        return "Nothing was written; try export.codec = 'dense' to see which step changes the answers."
    return (
        f"Nothing was written; leave {precision} out (--precision, export.precisions, export.values), or raise "
        f"export.{precision}_max_relative_error or lower export.{precision}_min_top1_agreement."
    )


def parity_gate(settings: ExportConfig, precision: str, reference: NDArray[np.float32]) -> tuple[float, float]:
    """(largest absolute error of a logit, least top-1 agreement) for logits `reference` [N, C]; the settings of a lower
    precision are shares of the largest logit."""
    largest = float(np.abs(reference).max())
    if precision == "float16":
        return settings.float16_max_relative_error * largest, settings.float16_min_top1_agreement
    if precision == "int8":
        return settings.int8_max_relative_error * largest, settings.int8_min_top1_agreement
    return settings.parity_max_abs_error, settings.parity_min_top1_agreement


def _size_key(name: str) -> str:
    """ "model.int8.pte" -> "int8_pte_bytes", "model.spte" -> "spte_bytes"."""
    return "_".join([*name.split(".")[1:], "bytes"])


def _list_documents(bundle: Path, manifest: Manifest) -> dict[str, DocumentEntry]:
    """All files in `bundle` but those that runtimes execute: SBOM, hand-over, Core ML package; name -> entry."""
    names = {path.relative_to(bundle).as_posix(): path for path in bundle.rglob("*") if path.is_file()}
    return {name: _document(names[name]) for name in sorted(names) if name not in manifest.files}


def _document(path: Path) -> DocumentEntry:
    content = path.read_bytes()
    return DocumentEntry(sha256=hashlib.sha256(content).hexdigest(), size_bytes=len(content))


def _manifest(
    run: Run, target: str, model: ModelKind, files: dict[str, FileEntry], built: OnnxFiles, backends: list[BackendEntry],
    sizes: dict[str, int], parity: dict[str, ParityEntry], classes: int,
) -> Manifest:  # fmt: skip
    data = run.summary["data"]
    return Manifest(
        tool_versions={
            "sctool": __version__,
            **{n: version(n) for n in ("torch", "torchao", "onnx", "onnxruntime", "executorch")},
        },
        target=target,
        model=model,
        run_sha256=run.sha256,
        files=files,
        input=TensorEntry(name="input", dtype="float32", shape=[None, *data["input_shape"]]),
        output=TensorEntry(name="logits", dtype="float32", shape=[None, classes]),
        max_batch=run.config.export.max_batch,
        normalisation=data["normalisation"],
        labels=data["labels"],
        data={"source": run.config.data.source, "records": data["records"], "input_shape": data["input_shape"]},
        split=run.summary["split"],
        layers=built.layers,
        passes=built.removed,
        backends=backends,
        density=run.summary["density"] if model == "sparse" else 1.0,
        sizes=sizes,
        parity=parity,
        accuracy={part: float(run.summary[model][f"{part}_accuracy"]) for part in ("train", "test")},
    )
