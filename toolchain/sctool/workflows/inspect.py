"""What a file or bundle holds, ours or not; no model is run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sctool.errors import ArtifactError
from sctool.export.inspect_executorch import inspect_ptd, inspect_pte, inspect_spte
from sctool.export.inspection import Inspection
from sctool.export.manifest import Manifest, check_files, read_manifest
from sctool.export.signature import FILE as SIGNATURE
from sctool.export.unlisted import find_unlisted, tell_unlisted
from sctool.formats.ptd import is_ptd
from sctool.formats.pte import is_pte
from sctool.formats.spte import is_spte

MAX_BYTES = 2**31
FORMATS = (".onnx", ".pte", ".ptd", ".spte")


def manifest_schema() -> dict[str, Any]:
    """The JSON schema of a bundle's manifest.json."""
    return Manifest.model_json_schema()


def inspect_path(path: Path) -> Inspection:
    """Of a bundle or of one file; what a file is, its first bytes say, for ONNX its name.

    Raises ArtifactError for what is missing, damaged, over 2 GiB or of no kind known here.
    """
    if path.is_dir():
        return _inspect_bundle(path)
    if not path.is_file():
        raise ArtifactError(f"No file or bundle {path}.", hint=f"Name a bundle, or one of {', '.join(FORMATS)}.")
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise ArtifactError(
            f"{path} has {size} bytes; the limit is {MAX_BYTES}.", hint="Larger models are not inspected."
        )
    with path.open("rb") as stream:
        start = stream.read(8)
    if is_spte(start):
        return inspect_spte(path.read_bytes(), str(path))
    if is_pte(start):
        beside = path.with_suffix(".ptd")
        data = beside.read_bytes() if beside.is_file() and beside.stat().st_size <= MAX_BYTES else None
        return inspect_pte(path.read_bytes(), str(path), data, beside.name)
    if is_ptd(start):
        return inspect_ptd(path.read_bytes(), str(path))
    if path.suffix.lower() == ".onnx":
        from sctool.export.inspect_onnx import inspect_onnx

        return inspect_onnx(path)
    raise ArtifactError(f"{path} is no model known here.", hint=f"Name a bundle, or one of {', '.join(FORMATS)}.")


def _inspect_bundle(path: Path) -> Inspection:
    """Every file of the manifest; what does not match it is told, and inspected all the same where it can be."""
    manifest = read_manifest(path)
    notes = [f"target {manifest.target}, run {manifest.run_sha256[:16]}, density {manifest.density:.4f}"]
    try:
        check_files(path, manifest)
        notes.append("every listed file matches its hash in the manifest")
        notes += tell_unlisted(find_unlisted(path, manifest))
    except ArtifactError as error:
        notes.append(f"DAMAGED OR ALTERED: {error.message}")
    notes.append(
        "signed; --signed-by of `sctool verify` checks by whom" if (path / SIGNATURE).is_file() else "not signed"
    )
    files = []
    for name in manifest.files:
        try:
            files.append(inspect_path(path / name))
        except ArtifactError as error:
            notes.append(f"{name}: {error.message}")
    notes += _tell_codecs(manifest) + _tell_backends(manifest)
    return Inspection(str(path), "bundle", sum(file.size_bytes for file in files), notes=notes, files=files)


def _tell_backends(manifest: Manifest) -> list[str]:
    """Of files with the sparse runtime: what the cost table decided, layer by layer."""
    others = {"xnnpack": "on XNNPACK", "onnxruntime": "in ONNX Runtime's own kernels"}
    return [
        f"{entry.file}: {entry.layer} ({entry.nnz} non-zeros) runs "
        f"{others.get(entry.backend, f'in our runtime, {entry.backend}')}: {entry.reason}"
        for entry in manifest.backends
    ]


def _tell_codecs(manifest: Manifest) -> list[str]:
    return [
        f"{name}: the manifest says codec {entry.codec}, {entry.precision}" for name, entry in manifest.files.items()
    ]
