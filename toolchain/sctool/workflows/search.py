"""The search of SafeCompress as a machine of small steps, so that it can stop and go on anywhere (PAPER, framework)."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from sctool.domain.candidate import Candidate, tm_score
from sctool.errors import ConfigError
from sctool.resources import suggest
from sctool.sparsity.density import DISTRIBUTIONS
from sctool.sparsity.drop import DROPS
from sctool.sparsity.grow import GROWS, SAFETY_AWARE
from sctool.sparsity.maskable import find_maskable
from sctool.sparsity.schedule import drop_fraction_at
from sctool.sparsity.topology import random_masks
from sctool.sparsity.trainer import (
    RoundGradients,
    TrainingState,
    change_topology,
    dense_gradients,
    start_training,
    train_until,
)  # fmt: skip
from sctool.workflows.experiment import (
    DENSE_ORDER,
    INITIAL_MASKS,
    ROUND_GRADIENT,
    SPARSE_ORDER,
    TOPOLOGY,
    Experiment,
)  # fmt: skip
from sctool.workflows.progress import Progress

GRADIENT_RECORDS = 512
SLICE = 25
"""Steps between two looks at the clock."""
Pair = tuple[str, str]


@dataclass
class Branch:
    """A candidate under way: its pair, its state, and its figures once it was tested."""

    number: int
    pair: Pair
    state: TrainingState
    seconds: float = 0.0
    candidate: Candidate | None = None
    alive: bool = True


@dataclass
class SearchState:
    """All that a run is at one moment, apart from what its config says."""

    dense: TrainingState
    trunk: TrainingState
    left_dense: list[dict[str, str]]
    round: int = 0
    rung: int = 0
    branches: list[Branch] = field(default_factory=list)
    parent: str = "initial"
    records: list[dict[str, Any]] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=lambda: {"dense": 0.0, "search": 0.0, "final": 0.0})


def parse_candidates(pairs: list[str]) -> list[Pair]:
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


def start_search(experiment: Experiment) -> SearchState:
    """The state before the first step, of the dense baseline and of the sparse trunk.

    Sparse from the first step: random masks, weights scaled so that activations keep their variance. Each weight is
    multiplied by sqrt(1 / density of its layer): fan-in shrinks by the density (Evci et al., "Gradient flow in sparse
    neural networks", AAAI 2022, in its simplest, per-layer form).
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
    masks = random_masks(shapes, counts, experiment.generator(INITIAL_MASKS))
    with torch.no_grad():
        for name in names:
            parameters[name].mul_(math.sqrt(math.prod(shapes[name]) / max(counts[name], 1)))
    return SearchState(start_training(experiment.build(), {}), start_training(model, masks), left)


def run_search(
    experiment: Experiment, state: SearchState, progress: Progress, save: Callable[[SearchState, bool], None]
) -> SearchState:
    """Bring `state` to the end of the run, from wherever it is.

    `save(state, due)` is called between any two slices of training; `due` says that a unit of work has just ended.
    The same state always ends in the same weights, however often it was saved and taken up again.
    """
    config = experiment.config.compress
    pairs = parse_candidates(config.candidates)
    machine = _Machine(experiment, state, progress, save, pairs)
    machine.train(state.dense, config.dense_steps, DENSE_ORDER, config.dense_steps, "dense", "dense baseline")
    total = config.warm_up_steps + config.rounds * config.steps_per_round + config.final_steps
    machine.train(state.trunk, config.warm_up_steps, SPARSE_ORDER, total, "search", "sparse warm-up")
    while state.round < config.rounds:
        machine.run_round(total)
    machine.train(state.trunk, total, SPARSE_ORDER, total, "final", "final training")
    state.dense.model.eval()
    state.trunk.model.eval()
    return state


class _Machine:
    def __init__(
        self, experiment: Experiment, state: SearchState, progress: Progress,
        save: Callable[[SearchState, bool], None], pairs: list[Pair],
    ) -> None:  # fmt: skip
        self._experiment, self._state, self._pairs = experiment, state, pairs
        self._progress, self._save = progress, save
        self._orders = {purpose: experiment.order(purpose) for purpose in (DENSE_ORDER, SPARSE_ORDER)}

    def train(self, state: TrainingState, end: int, purpose: int, total: int, clock: str, what: str) -> None:
        """Train `state` to step `end`, slice by slice."""
        settings = self._experiment.settings(total)
        while state.step < end:
            self._progress(state.step, end, what)
            began = time.perf_counter()
            train_until(
                state, self._experiment.x, self._experiment.y, settings, min(end, state.step + SLICE),
                self._orders[purpose],
            )  # fmt: skip
            self._state.seconds[clock] += time.perf_counter() - began
            self._save(self._state, state.step == end)

    def run_round(self, total: int) -> None:
        """Propose, train from rung to rung, test, stop the worse half; the winner becomes the trunk."""
        state, config = self._state, self._experiment.config.compress
        if not state.branches:
            began = time.perf_counter()
            state.branches = self._propose()
            state.seconds["search"] += time.perf_counter() - began
        first = config.warm_up_steps + state.round * config.steps_per_round
        rungs = [*config.halving, 1.0]
        while state.rung < len(rungs):
            end = first + math.ceil(rungs[state.rung] * config.steps_per_round)
            self._train_branches(end, total)
            for branch in state.branches:
                if branch.alive:
                    branch.candidate = self._test(branch)
            self._stop_losers(len(rungs) - state.rung)
            state.rung += 1
        winner = next(branch for branch in state.branches if branch.alive)
        for branch in state.branches:
            assert branch.candidate is not None
            state.records.append(branch.candidate.to_json(selected=branch is winner))
        assert winner.candidate is not None
        state.trunk, state.parent = winner.state, winner.candidate.name
        state.round, state.rung, state.branches = state.round + 1, 0, []
        self._save(state, True)

    def _propose(self) -> list[Branch]:
        """Branches of the trunk, each with its own change of topology."""
        state, config = self._state, self._experiment.config.compress
        gradients = _round_gradients(self._experiment, state.trunk, self._pairs, state.round)
        fraction = drop_fraction_at(state.round, config.rounds, config.drop_fraction, config.drop_decay)
        branches = []
        for number, pair in enumerate(self._pairs):
            began = time.perf_counter()
            branch = state.trunk.branch()
            change_topology(
                branch, gradients, drop=pair[0], grow=pair[1], fraction=fraction,
                generator=self._experiment.generator(TOPOLOGY, state.round, number),
            )  # fmt: skip
            branches.append(Branch(number, pair, branch, time.perf_counter() - began))
        return branches

    def _train_branches(self, end: int, total: int) -> None:
        state, rounds = self._state, self._experiment.config.compress.rounds
        for branch in state.branches:
            if branch.alive:
                began = time.perf_counter()
                what = f"round {state.round + 1}/{rounds}, {branch.pair[0]}/{branch.pair[1]}"
                self.train(branch.state, end, SPARSE_ORDER, total, "search", what)
                branch.seconds += time.perf_counter() - began

    def _test(self, branch: Branch) -> Candidate:
        """The task test and the safety test."""
        experiment, state = self._experiment, self._state
        began = time.perf_counter()
        task = experiment.task_accuracy(branch.state.model)
        attack = experiment.attack(branch.state.model)
        elapsed = time.perf_counter() - began
        branch.seconds += elapsed
        state.seconds["search"] += elapsed
        nnz = sum(int(mask.sum()) for mask in branch.state.masks.values())
        return Candidate(
            round=state.round, candidate=branch.number, drop=branch.pair[0], grow=branch.pair[1],
            seed=experiment.config.compress.seed, parent=state.parent, task_accuracy=task,
            attack_accuracy=attack.balanced_accuracy.value, attack_auc=attack.auc.value,
            tm_score=tm_score(task, attack.balanced_accuracy.value, experiment.config.safety.tm_exponent),
            density=nnz / sum(mask.numel() for mask in branch.state.masks.values()), nnz=nnz,
            steps=branch.state.step, seconds=branch.seconds,
        )  # fmt: skip

    def _stop_losers(self, rungs_left: int) -> None:
        """Keep the better half; before the last stretch, and at its end, one. Ties go to the earlier pair."""
        alive = [branch for branch in self._state.branches if branch.alive]
        ranked = sorted(alive, key=_by_score)
        keep = 1 if rungs_left <= 2 else math.ceil(len(alive) / 2)
        for branch in ranked[keep:]:
            branch.alive = False


def _by_score(branch: Branch) -> tuple[float, int]:
    assert branch.candidate is not None
    return (-branch.candidate.tm_score, branch.number)


def _round_gradients(experiment: Experiment, trunk: TrainingState, pairs: list[Pair], index: int) -> RoundGradients:
    """Dense gradients on a draw of training records; where a safety-aware pair competes, also on `attack_fit`."""
    generator = experiment.generator(ROUND_GRADIENT, index)
    rows = torch.randperm(len(experiment.x), generator=generator)[:GRADIENT_RECORDS]
    training = dense_gradients(trunk.model, experiment.x[rows], experiment.y[rows])
    if not any(name in SAFETY_AWARE for pair in pairs for name in pair):
        return RoundGradients(training)
    sides: list[dict[str, Tensor]] = []
    for side in ("members", "non_members"):
        chosen = torch.from_numpy(experiment.split[f"attack_fit_{side}"][:GRADIENT_RECORDS])
        x, y = torch.from_numpy(experiment.data.x)[chosen], torch.from_numpy(experiment.data.y)[chosen]
        sides.append(dense_gradients(trunk.model, x, y))
    return RoundGradients(training, *sides)
