"""A search on disk: one .safetensors file beside the output, written whole, with all that is no tensor in its header."""

from __future__ import annotations

import hashlib
import json
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save as save_tensors
from torch import Tensor

from sctool.atomic import write_file
from sctool.domain.candidate import Candidate
from sctool.errors import ArtifactError, ConfigError, OutputError
from sctool.sparsity.losses import parse_loss
from sctool.sparsity.trainer import TrainingState
from sctool.workflows.experiment import Experiment
from sctool.workflows.proposals import Proposal
from sctool.workflows.search_state import Branch, Kept, SearchState

SCHEMA = 3
HEADER = "sctool"
_PARTS = ("model", "masks", "momenta", "fired", "extras")


def checkpoint_path(output: Path) -> Path:
    """Where the unfinished run of `output` lies."""
    return output.absolute().parent / f".{output.name}.checkpoint.safetensors"


class CheckpointWriter:
    """Saves after each unit of work, and between slices when `minutes` have passed since the last time.

    Units that take seconds are not worth a file each: a unit's end is saved only a tenth of `minutes` after the last.
    """

    def __init__(self, path: Path, experiment: Experiment, minutes: float) -> None:
        self._path, self._identity, self._seconds = path, identify(experiment), 60 * minutes
        self._last = time.monotonic()

    def __call__(self, state: SearchState, due: bool) -> None:
        if time.monotonic() - self._last >= (self._seconds / 10 if due else self._seconds):
            write_checkpoint(self._path, state, self._identity)
            self._last = time.monotonic()


def identify(experiment: Experiment) -> dict[str, str]:
    """What must be the same for a run to be taken up again: settings that training sees, the split, the versions."""
    config = experiment.config.model_dump(mode="json")
    seen = {key: config[key] for key in ("model", "data", "compress", "safety")}
    for setting in ("checkpoint_minutes", "jobs"):
        del seen["compress"][setting]
    return {
        "settings": hashlib.sha256(json.dumps(seen, sort_keys=True).encode()).hexdigest(),
        "data": experiment.data.sha256,
        "split": experiment.split.sha256,
        "dense checkpoint": _hash_file(experiment.config.compress.dense_checkpoint),
        **{name: version(name) for name in ("torch", "numpy", "sctool")},
    }


def _hash_file(path: str) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest() if path else ""


def write_checkpoint(path: Path, state: SearchState, identity: dict[str, str]) -> None:
    """Write `state` to `path`, whole or not at all. OutputError where the disk is full or not writable."""
    tensors: dict[str, Tensor] = {}
    for name, training in _name_states(state).items():
        parts = (training.model.state_dict(), training.masks, training.momenta, training.fired, training.extras)
        for part, values in zip(_PARTS, parts, strict=True):
            tensors |= {
                f"{name}/{part}/{key}": value.detach().cpu().contiguous().clone() for key, value in values.items()
            }
    if state.soft is not None:
        tensors["search/soft/labels"] = state.soft.clone()
    header = {
        "schema": SCHEMA,
        "identity": identity,
        "steps": {name: training.step for name, training in _name_states(state).items()},
        "alike": {name: list(training.alike.items()) for name, training in _name_states(state).items()},
        "left_dense": state.left_dense,
        "taught": state.taught,
        "has_teacher": state.teacher is not None,
        "round": state.round,
        "rung": state.rung,
        "parent": state.parent,
        "records": state.records,
        "seconds": state.seconds,
        "branches": [
            {
                "number": branch.number, "proposal": _write_proposal(branch.proposal), "seconds": branch.seconds,
                "alive": branch.alive,
                "candidate": vars(branch.candidate) if branch.candidate else None,
            }
            for branch in state.branches
        ],
        "loss": str(state.loss),
        "trunks": [vars(candidate) for candidate in state.trunks],
        "best": vars(state.best.candidate) if state.best else None,
        "front": [vars(kept.candidate) for kept in state.front],
    }  # fmt: skip
    write_file(path, save_tensors(tensors, metadata={HEADER: json.dumps(header)}))


def read_checkpoint(path: Path, experiment: Experiment) -> SearchState:
    """The state that `path` holds. ArtifactError where it is damaged, ConfigError where it is of another run."""
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {})[HEADER])
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a dict
        if header["schema"] != SCHEMA:
            raise ValueError(f"schema {header['schema']}")
        changed = [key for key, value in identify(experiment).items() if header["identity"].get(key) != value]
        if changed:
            raise ConfigError(
                f"{path} is of a run with other {', '.join(changed)}.",
                hint="Take the settings and versions it was begun with, or pass --overwrite to begin anew.",
            )
        return _restore(header, tensors, experiment)
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise ArtifactError(
            f"Cannot take up {path}: {' '.join(str(error).split())[:160]}.", hint="Pass --overwrite to begin anew."
        ) from error


def refuse_unfinished(output: Path, *, overwrite: bool) -> None:
    """OutputError where an unfinished run of `output` would be lost; with `overwrite` it is removed."""
    path = checkpoint_path(output)
    if not path.exists():
        return
    if not overwrite:
        raise OutputError(
            f"An unfinished run of {output} lies in {path}.",
            hint="Pass --resume to go on with it, or --overwrite to begin anew.",
        )
    path.unlink()


def _name_states(state: SearchState) -> dict[str, TrainingState]:
    branches = {f"branch{branch.number}": branch.state for branch in state.branches if branch.alive}
    kept = {f"front{number}": kept.state for number, kept in enumerate(state.front)}
    best = {"best": state.best.state} if state.best else {}
    teacher = {"teacher": state.teacher} if state.teacher else {}
    return {"dense": state.dense, "trunk": state.trunk, **teacher, **branches, **best, **kept}


def _write_proposal(proposal: Proposal) -> dict[str, Any]:
    return {"drop": proposal.drop, "grow": proposal.grow, "loss": str(proposal.loss)}


def _read_proposal(item: dict[str, Any]) -> Proposal:
    return Proposal(str(item["drop"]), str(item["grow"]), parse_loss(item["loss"], where="its loss"))


def _restore(header: dict[str, Any], tensors: dict[str, Tensor], experiment: Experiment) -> SearchState:
    def training(name: str) -> TrainingState:
        parts: dict[str, dict[str, Tensor]] = {part: {} for part in _PARTS}
        for key, value in tensors.items():
            owner, part, parameter = key.split("/", 2)
            if owner == name:
                parts[part][parameter] = value.to(experiment.device)
        model = experiment.build()
        model.load_state_dict(parts["model"])
        return TrainingState(
            model,
            parts["masks"],
            parts["momenta"],
            parts["fired"],
            int(header["steps"][name]),
            parts["extras"],
            experiment.precision,
            alike={tuple(layers): bool(answer) for layers, answer in header["alike"][name]},
        )

    state = SearchState(
        training("dense"), training("trunk"), header["left_dense"], parse_loss(header["loss"], where="its loss"),
        tensors.get("search/soft/labels"), training("teacher") if header["has_teacher"] else None,
        int(header["taught"]), int(header["round"]), int(header["rung"]),
        parent=header["parent"], records=header["records"], seconds=header["seconds"],
        trunks=[Candidate(**item) for item in header["trunks"]],
        best=Kept(Candidate(**header["best"]), training("best")) if header["best"] else None,
        front=[Kept(Candidate(**item), training(f"front{k}")) for k, item in enumerate(header["front"])],
    )  # fmt: skip
    for item in header["branches"]:
        candidate = Candidate(**item["candidate"]) if item["candidate"] else None
        # A branch that was stopped is never trained on: the trunk stands in for its state.
        own = training(f"branch{item['number']}") if item["alive"] else state.trunk
        proposal = _read_proposal(item["proposal"])
        state.branches.append(Branch(item["number"], proposal, own, item["seconds"], candidate, item["alive"]))
    return state
