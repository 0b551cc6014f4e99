"""What a search ends with: its summary, and the run directory."""

from __future__ import annotations

import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sctool import __version__
from sctool.atomic import new_directory
from sctool.sparsity.trainer import TrainingState
from sctool.workflows.experiment import Experiment
from sctool.workflows.run_directory import CANARIES, DENSE, FRONT, MASKS, MODEL, SUMMARY, write_run
from sctool.workflows.search_state import SearchState
from sctool.workflows.training import describe_privacy


def write_result(
    experiment: Experiment, state: SearchState, output: Path, *, overwrite: bool, picked: str | None = None
) -> dict[str, Any]:
    """Write the run directory `output`, whole or not at all, and return its summary."""
    config, chosen = experiment.config, state.result
    summary = {
        "name": config.name,
        **_describe(experiment, chosen, state.left_dense),
        "dense": measure_model(experiment, state.dense.model),
        "sparse": measure_model(experiment, chosen.model),
        "privacy": describe_privacy(experiment) if config.compress.rule == "private" else None,
        "ended_with": state.best.candidate.name if state.best else None,
        "picked": picked,
        "front": [kept.candidate.to_json(selected=kept.candidate.name == picked) for kept in state.front],
        "seconds": state.seconds,
    }
    tensors: dict[str, dict[str, Tensor]] = {
        MODEL: dict(chosen.model.state_dict()), MASKS: dict(chosen.masks), DENSE: dict(state.dense.model.state_dict()),
    }  # fmt: skip
    front = {
        f"{kept.candidate.name}/{part}/{key}": value
        for kept in state.front
        for part, values in (("model", kept.state.model.state_dict()), ("masks", kept.state.masks))
        for key, value in values.items()
    }
    if front:
        tensors[FRONT] = front
    if experiment.canaries is not None:
        canaries = vars(experiment.canaries)
        tensors[CANARIES] = {name: torch.from_numpy(values) for name, values in canaries.items()}
    with new_directory(output, overwrite=overwrite, marker=SUMMARY) as folder:
        write_run(folder, config, summary, state.records, tensors, experiment.split)
    return summary


def measure_model(experiment: Experiment, model: nn.Module) -> dict[str, Any]:
    """Accuracies, and the safety test on the search's records; the audit's records are left to `verify`."""
    accuracies = {f"{part}_accuracy": experiment.task_accuracy(model, part) for part in ("train", "validation", "test")}
    return {**accuracies, "attacks": [result.to_json() for result in experiment.attack(model)]}


def _describe(experiment: Experiment, state: TrainingState, left: list[dict[str, str]]) -> dict[str, Any]:
    config, data, split = experiment.config, experiment.data, experiment.split
    layers = [
        {
            "name": name, "shape": list(parameter.shape), "size": parameter.numel(), "masked": name in state.masks,
            "nnz": int((parameter != 0).sum()) if name not in state.masks else int(state.masks[name].sum()),
            "density": float(state.masks[name].float().mean()) if name in state.masks else 1.0,
        }
        for name, parameter in state.model.named_parameters()
    ]  # fmt: skip
    size = sum(mask.numel() for mask in state.masks.values())
    return {
        "data": {
            "source": data.source, "records": len(data.y), "classes": data.classes, "labels": data.labels,
            "input_shape": list(data.x.shape[1:]), "normalisation": data.normalisation,
        },
        "model": {"source": config.model.source, "options": config.model.options},
        "density": sum(int(mask.sum()) for mask in state.masks.values()) / size,
        "exploration": state.exploration,
        "distribution": config.compress.distribution,
        "split": {
            "sha256": split.sha256, "seed": split.seed, "sizes": {name: len(rows) for name, rows in split.parts.items()},
            "shares": experiment.shares.model_dump(exclude_none=True),
        },
        "layers": layers,
        "left_dense": left,
        "safety": {"attacks": config.safety.selection_attacks, "tm_exponent": config.safety.tm_exponent},
        "rounds": config.compress.rounds,
        "seed": config.compress.seed,
        "versions": {
            "sctool": __version__, "python": platform.python_version(),
            **{name: version(name) for name in ("torch", "numpy", "safetensors", "scikit-learn")},
        },
    }  # fmt: skip
