"""SafeCompress (Zhu, Wang, Han, ASE 2022): propose sparse candidates, test them for task and safety, keep the best.

Ours, where the paper's text could not be obtained: one attacker fitted for each candidate, TM-score as in
domain.candidate.tm_score, a fixed number of rounds, then training at fixed topology.
"""

from __future__ import annotations

import math
import platform
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sctool import __version__
from sctool.atomic import new_directory, refuse_existing
from sctool.data.dataset import Dataset
from sctool.data.recipe import load_dataset
from sctool.data.splits import make_split
from sctool.domain.candidate import Candidate, tm_score
from sctool.domain.config import Config
from sctool.domain.membership import MembershipSplit
from sctool.errors import ConfigError
from sctool.models.build import build_model
from sctool.resources import suggest
from sctool.runtimes.eager import EagerSession
from sctool.safety.registry import create_attack
from sctool.sparsity.density import DISTRIBUTIONS
from sctool.sparsity.drop import DROPS
from sctool.sparsity.grow import GROWS, SAFETY_AWARE
from sctool.sparsity.maskable import find_maskable
from sctool.sparsity.schedule import drop_fraction_at
from sctool.sparsity.topology import random_masks
from sctool.sparsity.trainer import (
    RoundGradients,
    TrainingSettings,
    TrainingState,
    change_topology,
    dense_gradients,
    start_training,
    train_steps,
)  # fmt: skip
from sctool.workflows.progress import Progress, ignore_progress
from sctool.workflows.run_directory import DENSE, MASKS, MODEL, SUMMARY, write_run
from sctool.workflows.signals import attack_session, measure_accuracy

GRADIENT_RECORDS = 512


@dataclass(frozen=True)
class _Experiment:
    """What stays the same through a run."""

    config: Config
    data: Dataset
    split: MembershipSplit
    x: Tensor
    y: Tensor

    def settings(self, total_steps: int) -> TrainingSettings:
        c = self.config.compress
        return TrainingSettings(
            c.batch_size, c.learning_rate, c.momentum, c.weight_decay, c.label_smoothing, total_steps
        )

    def build(self) -> nn.Module:
        return build_model(
            self.config.model.source, self.config.model.options,
            input_shape=self.data.x.shape[1:], classes=self.data.classes, seed=self.config.compress.seed,
        )  # fmt: skip

    def generator(self, *purpose: int) -> torch.Generator:
        """A stream of its own for each purpose, so that one part's draws do not move another's."""
        seed = int(np.random.SeedSequence([self.config.compress.seed, *purpose]).generate_state(1, np.uint64)[0])
        return torch.Generator().manual_seed(seed % 2**63)


_DENSE_ORDER, _INITIAL_MASKS, _SPARSE_ORDER, _ROUND_GRADIENT, _TOPOLOGY = range(5)


def parse_candidates(pairs: list[str]) -> list[tuple[str, str]]:
    """["drop/grow", ...] -> [(drop, grow), ...]; ConfigError with the nearest valid name."""
    if not pairs:
        raise ConfigError("compress.candidates is empty.", hint="Give at least one drop/grow pair.")
    parsed = []
    for pair in pairs:
        drop, _, grow = pair.partition("/")
        for kind, name, valid in (("drop", drop, DROPS), ("grow", grow, GROWS)):
            if name not in valid:
                raise ConfigError(
                    f"compress.candidates: unknown {kind} {name!r} in {pair!r}.", hint=suggest(name, list(valid))
                )
        parsed.append((drop, grow))
    return parsed


def compress(
    config: Config, output: Path, *, overwrite: bool = False, progress: Progress = ignore_progress
) -> dict[str, Any]:
    """Run SafeCompress as `config` says, write the run directory `output`, and return its summary.

    Deterministic: the same config on the same machine and versions gives the same bytes of weights.
    """
    pairs = parse_candidates(config.compress.candidates)
    for name in {config.safety.selection_attack, *config.safety.audit_attacks}:
        create_attack(name)
    refuse_existing(output, overwrite=overwrite, marker=SUMMARY)
    torch.set_num_threads(1)
    data = load_dataset(config.data.source)
    split = make_split(data.y, config.data.split)
    rows = torch.from_numpy(split["train"])
    experiment = _Experiment(config, data, split, torch.from_numpy(data.x)[rows], torch.from_numpy(data.y)[rows])
    with new_directory(output, overwrite=overwrite, marker=SUMMARY) as folder:
        began = time.perf_counter()
        dense = _train_dense(experiment, progress)
        dense_seconds = time.perf_counter() - began
        state, left = _start_sparse(experiment)
        state, records, seconds = _search(experiment, state, pairs, progress)
        summary = {
            "name": config.name,
            **_describe(experiment, state, left),
            "dense": _measure(experiment, dense),
            "sparse": _measure(experiment, state.model),
            "seconds": {"dense": dense_seconds, **seconds},
        }
        tensors: dict[str, dict[str, Tensor]] = {
            MODEL: dict(state.model.state_dict()), MASKS: dict(state.masks), DENSE: dict(dense.state_dict()),
        }  # fmt: skip
        write_run(folder, config, summary, records, tensors, split)
    return summary


def _train_dense(experiment: _Experiment, progress: Progress) -> nn.Module:
    steps = experiment.config.compress.dense_steps
    state = start_training(experiment.build(), {})
    generator = experiment.generator(_DENSE_ORDER)
    progress(0, steps, "dense baseline")
    train_steps(state, experiment.x, experiment.y, experiment.settings(steps), steps, generator)
    progress(steps, steps, "dense baseline")
    return state.model.eval()


def _start_sparse(experiment: _Experiment) -> tuple[TrainingState, list[dict[str, str]]]:
    """Sparse from the first step: random masks, weights scaled so that activations keep their variance.

    Each weight is multiplied by sqrt(1 / density of its layer): fan-in shrinks by the density (Evci et al., "Gradient
    flow in sparse neural networks", AAAI 2022, in its simplest, per-layer form).
    """
    config = experiment.config.compress
    model = experiment.build()
    known = [name for name, _ in model.named_parameters()]
    for name in config.leave_dense:
        if name not in known:
            raise ConfigError(f"compress.leave_dense: the model has no parameter {name!r}.", hint=suggest(name, known))
    names, left = find_maskable(model, config.leave_dense)
    if not names:
        raise ConfigError(
            f"Model {experiment.config.model.source!r} has no weight that can be masked.",
            hint="sctool masks Linear and Conv weights; check compress.leave_dense.",
        )
    parameters = dict(model.named_parameters())
    shapes = {name: tuple(parameters[name].shape) for name in names}
    counts = DISTRIBUTIONS[config.distribution](shapes, config.density)
    masks = random_masks(shapes, counts, experiment.generator(_INITIAL_MASKS))
    with torch.no_grad():
        for name in names:
            parameters[name].mul_(math.sqrt(math.prod(shapes[name]) / max(counts[name], 1)))
    return start_training(model, masks), left


def _search(
    experiment: _Experiment, state: TrainingState, pairs: list[tuple[str, str]], progress: Progress
) -> tuple[TrainingState, list[dict[str, Any]], dict[str, float]]:
    config = experiment.config.compress
    steps = config.warm_up_steps + config.rounds * config.steps_per_round + config.final_steps
    settings = experiment.settings(steps)
    work = config.warm_up_steps + config.rounds * len(pairs) * config.steps_per_round + config.final_steps
    done = 0
    records: list[dict[str, Any]] = []
    began = time.perf_counter()
    order = experiment.generator(_SPARSE_ORDER)
    progress(done, work, "sparse warm-up")
    train_steps(state, experiment.x, experiment.y, settings, config.warm_up_steps, order)
    done += config.warm_up_steps
    parent = "initial"
    for index in range(config.rounds):
        best: tuple[float, TrainingState, Candidate] | None = None
        tried: list[Candidate] = []
        gradients = _round_gradients(experiment, state, pairs, index)
        for number, pair in enumerate(pairs):
            progress(done, work, f"round {index + 1}/{config.rounds}, {pair[0]}/{pair[1]}")
            branch, candidate = _try_candidate(experiment, state, gradients, settings, index, number, pair, parent)
            tried.append(candidate)
            if best is None or candidate.tm_score > best[0]:
                best = (candidate.tm_score, branch, candidate)
            done += config.steps_per_round
        assert best is not None
        state = best[1]
        records += [candidate.to_json(selected=candidate is best[2]) for candidate in tried]
        parent = best[2].name
    search_seconds = time.perf_counter() - began
    progress(done, work, "final training")
    train_steps(state, experiment.x, experiment.y, settings, config.final_steps, experiment.generator(_SPARSE_ORDER, 1))
    progress(work, work, "final training")
    state.model.eval()
    return state, records, {"search": search_seconds, "final": time.perf_counter() - began - search_seconds}


def _round_gradients(
    experiment: _Experiment, state: TrainingState, pairs: list[tuple[str, str]], index: int
) -> RoundGradients:
    """Dense gradients on a draw of training records; where a safety-aware pair competes, also on `attack_fit`."""
    generator = experiment.generator(_ROUND_GRADIENT, index)
    rows = torch.randperm(len(experiment.x), generator=generator)[:GRADIENT_RECORDS]
    training = dense_gradients(state.model, experiment.x[rows], experiment.y[rows])
    if not any(name in SAFETY_AWARE for pair in pairs for name in pair):
        return RoundGradients(training)
    sides = []
    for side in ("members", "non_members"):
        chosen = torch.from_numpy(experiment.split[f"attack_fit_{side}"][:GRADIENT_RECORDS])
        x, y = torch.from_numpy(experiment.data.x)[chosen], torch.from_numpy(experiment.data.y)[chosen]
        sides.append(dense_gradients(state.model, x, y))
    return RoundGradients(training, *sides)


def _try_candidate(
    experiment: _Experiment, parent: TrainingState, gradients: RoundGradients, settings: TrainingSettings,
    index: int, number: int, pair: tuple[str, str], parent_name: str,
) -> tuple[TrainingState, Candidate]:  # fmt: skip
    """Change the topology of a copy of `parent`, train it for one round on the round's data order, and test it."""
    config = experiment.config
    began = time.perf_counter()
    state = parent.branch()
    fraction = drop_fraction_at(index, config.compress.rounds, config.compress.drop_fraction)
    change_topology(
        state, gradients, drop=pair[0], grow=pair[1], fraction=fraction,
        generator=experiment.generator(_TOPOLOGY, index, number),
    )  # fmt: skip
    order = experiment.generator(_SPARSE_ORDER, 2, index)
    train_steps(state, experiment.x, experiment.y, settings, config.compress.steps_per_round, order)
    session = EagerSession(state.model.eval())
    task = measure_accuracy(session, experiment.data, experiment.split["validation"])
    attack = attack_session(
        session, experiment.data, experiment.split, attacks=[config.safety.selection_attack],
        fit="attack_fit", score="attack_select", seed=config.compress.seed,
    )[0]  # fmt: skip
    nnz = sum(int(mask.sum()) for mask in state.masks.values())
    size = sum(mask.numel() for mask in state.masks.values())
    return state, Candidate(
        round=index, candidate=number, drop=pair[0], grow=pair[1], seed=config.compress.seed, parent=parent_name,
        task_accuracy=task, attack_accuracy=attack.balanced_accuracy.value, attack_auc=attack.auc.value,
        tm_score=tm_score(task, attack.balanced_accuracy.value, config.safety.tm_exponent),
        density=nnz / size, nnz=nnz, seconds=time.perf_counter() - began,
    )  # fmt: skip


def _measure(experiment: _Experiment, model: nn.Module) -> dict[str, Any]:
    """Accuracies, and the safety test on the search's records; the audit's records are left to `verify`."""
    session = EagerSession(model.eval())
    attacks = attack_session(
        session, experiment.data, experiment.split, attacks=[experiment.config.safety.selection_attack],
        fit="attack_fit", score="attack_select", seed=experiment.config.compress.seed,
    )  # fmt: skip
    accuracies = {
        f"{part}_accuracy": measure_accuracy(session, experiment.data, experiment.split[part])
        for part in ("train", "validation", "test")
    }
    return {**accuracies, "attacks": [attack.to_json() for attack in attacks]}


def _describe(experiment: _Experiment, state: TrainingState, left: list[dict[str, str]]) -> dict[str, Any]:
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
        "safety": {"attacks": [config.safety.selection_attack], "tm_exponent": config.safety.tm_exponent},
        "rounds": config.compress.rounds,
        "seed": config.compress.seed,
        "versions": {
            "sctool": __version__, "python": platform.python_version(),
            **{name: version(name) for name in ("torch", "numpy", "safetensors", "scikit-learn")},
        },
    }  # fmt: skip
