"""The run directory: what `compress` writes and everything later reads."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor, nn

from sctool.atomic import write_file, write_json
from sctool.domain.config import Config, validate_config
from sctool.domain.membership import PARTS, Canaries, MembershipSplit
from sctool.errors import ArtifactError
from sctool.models.build import build_model

CONFIG, SUMMARY, CANDIDATES = "config.json", "summary.json", "candidates.jsonl"
MODEL, MASKS, DENSE, SPLIT = "model.safetensors", "masks.safetensors", "dense.safetensors", "split.safetensors"
CANARIES = "canaries.safetensors"
"""Rows, labels and inclusion of the one-run audit's canaries; only with compress.canaries."""
FRONT = "front.safetensors"
"""Models of the Pareto front, "NAME/model/..." and "NAME/masks/..."; only with safety.selection = "pareto"."""


@dataclass(frozen=True)
class Run:
    """A run directory that was read and checked against the hashes in its summary."""

    path: Path
    config: Config
    summary: dict[str, Any]
    candidates: list[dict[str, Any]]

    @property
    def sha256(self) -> str:
        """Identity of the run's result: the hash of its sparse weights."""
        return str(self.summary["files"][MODEL])


def write_tensors(path: Path, tensors: dict[str, Tensor]) -> str:
    """Write a .safetensors file and return its sha256."""
    content = save_tensors(
        {name: tensor.detach().cpu().contiguous().clone() for name, tensor in sorted(tensors.items())}
    )
    write_file(path, content)
    return hashlib.sha256(content).hexdigest()


def write_split(path: Path, split: MembershipSplit) -> str:
    """Write all index sets as int64 tensors and return the file's sha256."""
    return write_tensors(path, {name: torch.from_numpy(rows) for name, rows in split.parts.items()})


def write_run(
    folder: Path, config: Config, summary: dict[str, Any], candidates: list[dict[str, Any]],
    tensors: dict[str, dict[str, Tensor]], split: MembershipSplit,
) -> None:  # fmt: skip
    """Fill `folder` (a staging directory) with a run's files; the summary, written last, holds their hashes."""
    files = {name: write_tensors(folder / name, content) for name, content in tensors.items()}
    files[SPLIT] = write_split(folder / SPLIT, split)
    write_json(folder / CONFIG, config.model_dump(mode="json"))
    write_file(folder / CANDIDATES, "".join(json.dumps(c, sort_keys=True) + "\n" for c in candidates))
    for name in (CONFIG, CANDIDATES):
        files[name] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    write_json(folder / SUMMARY, {**summary, "files": files})


def read_run(path: Path) -> Run:
    """Read a run directory. ArtifactError where it is missing, damaged, or a file's hash differs."""
    if not path.is_dir():
        raise ArtifactError(f"No run directory {path}.", hint="`sctool compress CONFIG` makes one.")
    summary = _read_json(path / SUMMARY)
    if not isinstance(summary, dict) or not isinstance(summary.get("files"), dict):
        raise ArtifactError(f"{path / SUMMARY} is not a run's summary.", hint="Run `sctool compress` again.")
    extra = [name for name in (FRONT, CANARIES) if name in summary["files"]]
    for name in (CONFIG, CANDIDATES, MODEL, MASKS, DENSE, SPLIT, *extra):
        _check_hash(path / name, summary["files"].get(name))
    config = validate_config(_read_json(path / CONFIG), where=str(path / CONFIG))
    lines = (path / CANDIDATES).read_text(encoding="utf-8").splitlines()
    return Run(path, config, summary, [json.loads(line) for line in lines])


def read_split(run: Run) -> MembershipSplit:
    """The run's split, from its file."""
    tensors = read_tensors(run.path / SPLIT)
    parts = {name: np.asarray(tensors[name].numpy(), dtype=np.int64) for name in PARTS}
    return MembershipSplit(parts, int(run.summary["split"]["seed"]), str(run.summary["split"]["sha256"]))


def read_canaries(run: Run) -> Canaries | None:
    """The run's canaries; None where it has none. ArtifactError where they are damaged."""
    if CANARIES not in run.summary["files"]:
        return None
    tensors = read_tensors(run.path / CANARIES)
    try:
        return Canaries(*(tensors[name].numpy() for name in ("rows", "labels", "is_in")))
    except KeyError as error:
        raise ArtifactError(f"{run.path / CANARIES} lacks {error}.", hint="Run `sctool compress` again.") from error


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a .safetensors file, by name; ArtifactError where it is missing or damaged."""
    try:
        return dict(sorted(load_tensors(path.read_bytes()).items()))
    except (OSError, SafetensorError, ValueError, KeyError) as error:
        raise ArtifactError(f"Cannot read {path}: {error}.", hint="Run `sctool compress` again.") from error


def load_run_model(run: Run, file: str = MODEL) -> nn.Module:
    """The run's sparse model (or its dense baseline, file=DENSE) in eval mode, in eager PyTorch.

    Raises ArtifactError where the weights do not fit the model that the run's config describes.
    """
    data = run.summary["data"]
    model = build_model(
        run.config.model.source, run.config.model.options,
        input_shape=data["input_shape"], classes=data["classes"], seed=run.config.compress.seed,
    )  # fmt: skip
    try:
        model.load_state_dict(read_tensors(run.path / file))
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise ArtifactError(
            f"{run.path / file} does not fit model {run.config.model.source!r}: {reason}",
            hint="Use the model's code as it was when the run was made.",
        ) from error
    return model.eval()


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ArtifactError(
            f"Cannot read {path}: {error}.", hint="Is this a run directory? See `sctool compress`."
        ) from error


def _check_hash(path: Path, expected: object) -> None:
    try:
        found = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise ArtifactError(f"Cannot read {path}: {error.strerror}.", hint="Run `sctool compress` again.") from error
    if found != expected:
        raise ArtifactError(
            f"{path} is damaged: its sha256 is {found[:12]}..., the summary says {str(expected)[:12]}....",
            hint="Run `sctool compress` again.",
        )
