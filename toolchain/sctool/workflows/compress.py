"""SafeCompress (Zhu, Wang, Han, ASE 2022): propose sparse candidates, test them for task and safety, keep the best.

Ours, where the paper's text could not be obtained: one attacker fitted for each candidate, TM-score as in
domain.candidate.tm_score, a fixed number of rounds, then training at fixed topology.
"""

from __future__ import annotations

import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sctool import __version__
from sctool.atomic import check_writable, new_directory, refuse_existing
from sctool.domain.config import Config
from sctool.domain.selection import create_ranking
from sctool.safety.registry import create_attack
from sctool.sparsity.trainer import TrainingState
from sctool.workflows.checkpoint import CheckpointWriter, checkpoint_path, read_checkpoint, refuse_unfinished
from sctool.workflows.experiment import Experiment, prepare_experiment
from sctool.workflows.progress import Progress, ignore_progress
from sctool.workflows.proposals import parse_proposals
from sctool.workflows.run_directory import DENSE, MASKS, MODEL, SUMMARY, write_run
from sctool.workflows.search import run_search, start_search
from sctool.workflows.training import describe_privacy, read_rule_options


def compress(
    config: Config, output: Path, *, overwrite: bool = False, resume: bool = False,
    progress: Progress = ignore_progress,
) -> dict[str, Any]:  # fmt: skip
    """Run SafeCompress as `config` says, write the run directory `output`, and return its summary.

    Deterministic: the same config on the same machine and versions gives the same bytes of weights, also where the run
    was stopped on the way and taken up again with `resume`, which begins anew where there is nothing to take up.
    """
    _check(config)
    refuse_existing(output, overwrite=overwrite, marker=SUMMARY)
    check_writable(output)
    unfinished = checkpoint_path(output)
    if not resume:
        refuse_unfinished(output, overwrite=overwrite)
    torch.set_num_threads(1)
    experiment = prepare_experiment(config)
    state = read_checkpoint(unfinished, experiment) if unfinished.exists() else start_search(experiment)
    writer = CheckpointWriter(unfinished, experiment, config.compress.checkpoint_minutes)
    state = run_search(experiment, state, progress, writer)
    summary = {
        "name": config.name,
        **_describe(experiment, state.result, state.left_dense),
        "dense": _measure(experiment, state.dense.model),
        "sparse": _measure(experiment, state.result.model),
        "privacy": describe_privacy(experiment) if config.compress.rule == "private" else None,
        "seconds": state.seconds,
    }
    tensors: dict[str, dict[str, Tensor]] = {
        MODEL: dict(state.result.model.state_dict()), MASKS: dict(state.result.masks),
        DENSE: dict(state.dense.model.state_dict()),
    }  # fmt: skip
    with new_directory(output, overwrite=overwrite, marker=SUMMARY) as folder:
        write_run(folder, config, summary, state.records, tensors, experiment.split)
    unfinished.unlink(missing_ok=True)
    return summary


def _check(config: Config) -> None:
    """ConfigError for any name that does not exist, before data are read or steps are made."""
    parse_proposals(config.compress)
    read_rule_options(config.compress.rule, config.compress.rule_options)
    create_ranking(config.safety.selection, config.safety.constraints)
    for name in {*config.safety.selection_attacks, *config.safety.audit_attacks}:
        create_attack(name)


def _measure(experiment: Experiment, model: nn.Module) -> dict[str, Any]:
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
