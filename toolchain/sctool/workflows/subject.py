"""What is verified: a bundle, a bare model, an application with models in it, or a callable; and the records for it."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from torch import nn

from sctool.data.dataset import Dataset
from sctool.data.source import load_dataset, resolve_split
from sctool.data.splits import make_split
from sctool.domain.artifact import Optimisation, Precision, Session
from sctool.domain.config import Config, load_config
from sctool.domain.membership import MembershipSplit
from sctool.errors import ArtifactError, ConfigError
from sctool.export.manifest import ModelKind
from sctool.export.unlisted import tell_unlisted
from sctool.formats.suffixes import RUN_HERE
from sctool.plugins import load_callable
from sctool.runtimes.answering import CallableSession
from sctool.runtimes.archive import SUFFIXES, extract_models
from sctool.runtimes.eager import EagerSession
from sctool.runtimes.registry import open_session
from sctool.workflows.bundle import Bundle, find_run, load_records, open_bundle
from sctool.workflows.run_directory import DENSE, Run, load_run_model, read_canaries, read_run

VERIFICATION = "verification.json"
RUNTIME_NAMES = {"onnx": "ONNX Runtime", "pte": "ExecuTorch", "spte": "ExecuTorch"}


@dataclass(frozen=True)
class Column:
    """`session` answers; `inside` is the model itself, where there is one to look into. `kind`: dense or sparse, for the
    run's models in PyTorch, or artifact; `model`: which of the run's models it is, or is taken for."""

    name: str
    kind: str
    session: Session
    inside: nn.Module | None = None
    model: ModelKind = "sparse"
    precision: Precision = "float32"

    @property
    def shadow_kind(self) -> str:
        """Which shadow models answer as this does: int8 rounds by more than models differ, float16 does not."""
        return f"{self.model}:int8" if self.precision == "int8" else self.model


@dataclass(frozen=True)
class Subject:
    """`columns`: the run's models in PyTorch first, where there is a run; then what is verified. `artifacts`: name ->
    sha256; `files`: name -> path of all that ships; `record`: where verification.json goes by default; `bundle`: where
    it is one."""

    columns: list[Column]
    data: Dataset
    split: MembershipSplit
    config: Config
    origin: Run | None
    artifacts: dict[str, str]
    files: dict[str, Path]
    record: Path
    notes: list[str] = field(default_factory=list)
    bundle: Bundle | None = None

    @property
    def shipped(self) -> ModelKind:
        """Which of the run's models the artifacts are."""
        return next(column.model for column in self.columns if column.kind == "artifact")


@contextmanager
def open_subject(
    path: str | Path, *, run: Path | None, config: Path | None, data_source: str | None,
    optimisation: Optimisation = "all", signed_by: Path | None = None,
) -> Iterator[Subject]:  # fmt: skip
    """What `path` names, open for as long as the block lasts.

    A directory is a bundle, whose manifest says which records; for all else `run`, or the `config` that holds the data
    set and its split, does. `signed_by`: the public key that must have signed the bundle. Raises ArtifactError for what
    cannot be opened, ConfigError where the records are not known.
    """
    place = Path(path)
    if place.is_dir():
        yield _open_bundle(place, run, data_source, optimisation, signed_by)
        return
    if signed_by:
        raise ConfigError(f"{path} is no bundle: only bundles are signed.", hint="Leave --signed-by out.")
    if not place.exists() and ":" in str(path):
        session = CallableSession(load_callable(str(path), what="the model"), reference=str(path))
        columns, record = [Column(str(path), "artifact", session)], Path(VERIFICATION)
        yield _join(columns, {}, {}, record, run, config, data_source)
        return
    if not place.is_file():
        raise ArtifactError(
            f"No bundle directory {path}, nor a file.",
            hint="`sctool export RUN` makes a bundle; .onnx, .pte, .spte, .apk go too.",
        )
    record = place.with_name(f"{place.name}.verification.json")
    if place.suffix.lower() in RUN_HERE:
        columns = [_open_file(place.name, place, optimisation)]
        digest = hashlib.sha256(place.read_bytes()).hexdigest()
        yield _join(columns, {place.name: digest}, {place.name: place}, record, run, config, data_source)
    elif place.suffix.lower() in SUFFIXES:
        with tempfile.TemporaryDirectory(prefix="sctool-") as folder:
            found, foreign = extract_models(place, Path(folder))
            columns = [_open_file(model.name, model.path, optimisation) for model in found]
            notes = [f"{name} was NOT verified: no runtime here runs it." for name in foreign]
            artifacts = {model.name: model.sha256 for model in found}
            files = {model.name: model.path for model in found}
            yield _join(columns, artifacts, files, record, run, config, data_source, notes)
    else:
        raise ArtifactError(
            f"{path} is nothing that can be verified.",
            hint=f"Name a bundle, {', '.join((*RUN_HERE, *SUFFIXES))} or module:callable.",
        )


def _open_file(
    name: str, path: Path, optimisation: Optimisation, model: ModelKind = "sparse", precision: Precision = "float32"
) -> Column:
    title = f"{name} ({RUNTIME_NAMES[path.suffix.lower()[1:]]})"
    session = open_session(path, optimisation=optimisation)
    return Column(title, "artifact", session, model=model, precision=precision)


def _open_bundle(
    path: Path, run: Path | None, data_source: str | None, optimisation: Optimisation, signed_by: Path | None
) -> Subject:
    bundle = open_bundle(path, signed_by)
    origin = find_run(bundle, run)
    data, split = load_records(bundle, data_source, origin)
    split = _without_canaries(split, origin)
    model = bundle.manifest.model
    columns = _open_run(origin) + [
        _open_file(name, path / name, optimisation, model, entry.precision)
        for name, entry in bundle.manifest.files.items()
    ]
    artifacts = {name: entry.sha256 for name, entry in bundle.manifest.files.items()}
    config = origin.config if origin else Config()
    files, record = _list_files(path), path / VERIFICATION
    notes = tell_unlisted(bundle.unlisted)
    return Subject(columns, data, split, config, origin, artifacts, files, record, notes, bundle)


def _list_files(bundle: Path) -> dict[str, Path]:
    """All plain files of a bundle but what `verify` and `profile` wrote about it."""
    return {
        str(file.relative_to(bundle)): file
        for file in sorted(bundle.rglob("*"))
        if file.is_file() and not file.is_symlink() and file.name not in (VERIFICATION, "profile.json")
    }


def _without_canaries(split: MembershipSplit, origin: Run | None) -> MembershipSplit:
    """The run's canaries are no test records any more."""
    canaries = read_canaries(origin) if origin else None
    if canaries is None:
        return split
    return replace(split, parts={**split.parts, "test": np.setdiff1d(split["test"], canaries.rows)})


def _open_run(origin: Run | None) -> list[Column]:
    if origin is None:
        return []
    dense, sparse = load_run_model(origin, DENSE), load_run_model(origin)
    return [
        Column("dense (eager)", "dense", EagerSession(dense), dense, "dense"),
        Column("sparse (eager)", "sparse", EagerSession(sparse), sparse),
    ]


def _join(
    columns: list[Column], artifacts: dict[str, str], files: dict[str, Path], record: Path, run: Path | None,
    file: Path | None, data_source: str | None, notes: list[str] | None = None,
) -> Subject:  # fmt: skip
    """With the records of `run`, or of the config at `file`."""
    if (run is None) == (file is None):
        raise ConfigError(
            "Which records were members, and which were not?",
            hint="Add --run RUN, or --config with the TOML that names the data and their split: one of the two.",
        )
    origin = read_run(run) if run else None
    config = origin.config if origin else load_config(file)
    data = load_dataset(data_source or config.data.source, config.data.root if not data_source else None)
    split = make_split(data.y, resolve_split(config.data), data.in_train)
    expected = str(origin.summary["split"]["sha256"]) if origin else split.sha256
    if split.sha256 != expected:
        raise ConfigError(
            f"The data give split {split.sha256[:12]}..., the run was made with {expected[:12]}....",
            hint="Verify with the data that the model was trained on (--data).",
        )
    split = _without_canaries(split, origin)
    return Subject(_open_run(origin) + columns, data, split, config, origin, artifacts, files, record, notes or [])
