"""The bundle's manifest: what ships, its hashes, and how to rebuild the records it was tested on."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sctool.atomic import write_json
from sctool.domain.artifact import Precision
from sctool.errors import ArtifactError

FILE = "manifest.json"
MAX_BYTES = 16 * 2**20
AGAIN = "Export the run again: `sctool export RUN --overwrite`."
ModelKind = Literal["sparse", "dense"]
"""Which of a run's two models: what the search ended with, or the dense baseline beside it."""
FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
DocumentName = Annotated[
    str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*$", max_length=255)
]
"""A relative path with "/" between its parts; none of them begins with a dot, so that none leads out of the bundle."""
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class FileEntry(_Record):
    """`stores`, `computes`: what the file, and the runtime that executes it, do with zeros; `because`: the rule."""

    sha256: Sha256
    size_bytes: Annotated[int, Field(ge=0)]
    format: Literal["onnx", "pte", "spte"]
    runtime: str
    precision: Precision
    codec: str
    note: str = ""
    stores: Literal["sparse", "dense", "unknown"] = "unknown"
    computes: Literal["sparse", "dense", "unknown"] = "unknown"
    because: str = ""


class DocumentEntry(_Record):
    """A file of the bundle that no runtime executes."""

    sha256: Sha256
    size_bytes: Annotated[int, Field(ge=0)]


class TensorEntry(_Record):
    """`shape` has None for the batch dimension."""

    name: str
    dtype: str
    shape: list[int | None]


class LayerEntry(_Record):
    """One stored tensor of an ONNX file; `values`: how its values are stored; `why`: what chose the codec."""

    name: str
    shape: list[int]
    size: int
    nnz: int
    density: float
    dense_bytes: int
    stored_bytes: int
    codec: str
    values: str = "float32"
    why: str = ""
    file: str = "model.onnx"


class PassEntry(_Record):
    """What a pass over the dense ONNX graph took away; FLOPs of one record, dense, two a multiplication."""

    name: str
    nonzeros_removed: int
    bytes_removed: int
    flops_removed: int
    note: str = ""


class BackendEntry(_Record):
    """Where a layer of a file with the sparse runtime runs, and what the cost table says of each way for one record, in
    microseconds."""

    layer: str
    backend: Literal["sparse", "dense", "xnnpack", "onnxruntime"]
    nnz: int
    reason: str
    sparse_us: float | None
    dense_us: float | None
    xnnpack_us: float | None
    file: str = "model.pte"


class ParityEntry(_Record):
    records: int
    max_abs_error: float
    top1_agreement: float


class Manifest(_Record):
    """docs/manifest.md explains every field; docs/manifest.schema.json is made from this.

    `accuracy`: of the sparse model in PyTorch, on the split's parts `train` and `test`.
    """

    schema_version: Literal[1] = 1
    tool_versions: dict[str, str]
    target: str
    model: ModelKind = "sparse"
    run_sha256: Sha256
    files: Annotated[dict[FileName, FileEntry], Field(min_length=1)]
    input: TensorEntry
    output: TensorEntry
    max_batch: Annotated[int, Field(ge=1)]
    normalisation: dict[str, Any]
    labels: list[str]
    data: dict[str, Any]
    split: dict[str, Any]
    layers: list[LayerEntry]
    backends: list[BackendEntry] = []
    density: float
    sizes: dict[str, int]
    parity: dict[str, ParityEntry]
    documents: dict[DocumentName, DocumentEntry] = {}
    accuracy: dict[str, float] = {}
    passes: list[PassEntry] = []

    @property
    def plain_layers(self) -> list[LayerEntry]:
        """The tensors of the float32 file alone."""
        return [layer for layer in self.layers if layer.file == "model.onnx"]


def write_manifest(bundle: Path, manifest: Manifest) -> None:
    """Write manifest.json into `bundle`."""
    write_json(bundle / FILE, manifest.model_dump(mode="json"))


def read_manifest(bundle: Path) -> Manifest:
    """Read and validate BUNDLE/manifest.json. ArtifactError where it is missing, too large or not a manifest."""
    path = bundle / FILE
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ArtifactError(f"{path} has {path.stat().st_size} bytes; the limit is {MAX_BYTES}.", hint=AGAIN)
        return Manifest.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise ArtifactError(
            f"Cannot read {path}: {error.strerror}.", hint="Is this a bundle? See `sctool export`."
        ) from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(map(str, first["loc"]))
        raise ArtifactError(f"{path} is damaged: {key}: {first['msg']}.", hint=AGAIN) from error
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"{path} is not valid JSON: {error}.", hint=AGAIN) from error


def check_files(bundle: Path, manifest: Manifest) -> None:
    """Hold every file against its size and sha256; ArtifactError naming the first that differs."""
    described: dict[str, FileEntry | DocumentEntry] = {**manifest.files, **manifest.documents}
    for name, entry in described.items():
        path = bundle / name
        if path.is_symlink() or not path.is_file():
            raise ArtifactError(f"{path} is missing or not a regular file.", hint=AGAIN)
        content = path.read_bytes()
        found = hashlib.sha256(content).hexdigest()
        if len(content) != entry.size_bytes or found != entry.sha256:
            raise ArtifactError(
                f"{path} is damaged or altered: {len(content)} bytes with sha256 {found[:12]}..., the manifest says "
                f"{entry.size_bytes} bytes with {entry.sha256[:12]}....",
                hint=AGAIN,
            )
