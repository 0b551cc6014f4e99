"""Reading a bundle for `verify` and `profile`: its manifest, its files, its records, and the run it came from."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from sctool.data.dataset import Dataset
from sctool.data.source import load_dataset
from sctool.data.splits import make_split
from sctool.domain.data_config import SplitConfig
from sctool.domain.membership import MembershipSplit
from sctool.errors import ArtifactError, DataError
from sctool.export.manifest import Manifest, check_files, read_manifest
from sctool.export.signature import check_signature
from sctool.export.unlisted import find_unlisted
from sctool.workflows.run_directory import SUMMARY, Run, read_run


@dataclass(frozen=True)
class Bundle:
    """A bundle whose files match its manifest's hashes. `unlisted`: what lies beside them and is no part of it."""

    path: Path
    manifest: Manifest
    unlisted: list[str] = field(default_factory=list)


def open_bundle(path: Path, signed_by: Path | None = None) -> Bundle:
    """Read `path` and check every file's hash. ArtifactError on anything missing, damaged, altered or added (see
    `find_unlisted`), and, with a public key, on a signature that is missing or not that key's: checked before anything
    else is read."""
    if not path.is_dir():
        found = f"{path} is a file, not a bundle directory." if path.exists() else f"No bundle directory {path}."
        raise ArtifactError(found, hint="`sctool export RUN` makes one.")
    if signed_by:
        check_signature(path, signed_by)
    manifest = read_manifest(path)
    check_files(path, manifest)
    return Bundle(path, manifest, find_unlisted(path, manifest))


def load_records(bundle: Bundle, source: str | None, run: Run | None) -> tuple[Dataset, MembershipSplit]:
    """The data set and split that the bundle's manifest names, rebuilt and held against the split's hash.

    A recipe's files are looked up where `run` found them, in its data.root. DataError where the data are not the run's.
    """
    name = source or str(bundle.manifest.data["source"])
    data = load_dataset(name, run.config.data.root if run and not source else None)
    split = make_split(data.y, SplitConfig.model_validate(bundle.manifest.split["shares"]), data.in_train)
    expected = str(bundle.manifest.split["sha256"])
    if split.sha256 != expected or list(data.x.shape[1:]) != list(bundle.manifest.data["input_shape"]):
        raise DataError(
            f"Data {name!r} give split {split.sha256[:12]}..., the manifest says {expected[:12]}....",
            hint="Verify with the data that the model was trained on (--data).",
        )
    return data, split


def find_run(bundle: Bundle, given: Path | None) -> Run | None:
    """The run the bundle came from: `given`, else the run directory around the bundle, else None.

    ArtifactError where `given` is another run.
    """
    candidates = [given] if given else [p for p in bundle.path.absolute().parents[:2] if (p / SUMMARY).is_file()]
    for path in candidates:
        run = read_run(path)
        if run.sha256 == bundle.manifest.run_sha256:
            return run
        if given:
            raise ArtifactError(
                f"{bundle.path} was exported from another run than {given}.",
                hint="Name the right run, or leave --run out.",
            )
    return None
