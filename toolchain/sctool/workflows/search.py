"""The search of SafeCompress as a machine of small steps, so that it can stop and go on anywhere (PAPER, framework)."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import torch
from torch import Tensor

from sctool.domain.candidate import Candidate
from sctool.domain.selection import create_ranking, extend_front
from sctool.sparsity.losses import LossSpec, parse_loss
from sctool.sparsity.order import DataOrder
from sctool.sparsity.rules import Backpropagate, GradientRule
from sctool.sparsity.trainer import TrainingSettings, TrainingState, train_until
from sctool.workflows.experiment import DENSE_ORDER, SPARSE_ORDER, Experiment
from sctool.workflows.progress import Progress
from sctool.workflows.proposals import KEEP, Proposal, carry_out, parse_proposals, proposals_of_round, wants_teachers
from sctool.workflows.search_state import Branch, Kept, SearchState
from sctool.workflows.side_by_side import PIECE, Piece, train_side_by_side
from sctool.workflows.start import start_from_dense
from sctool.workflows.teachers import add_predictions, read_teacher_loss, start_teacher, teacher_records
from sctool.workflows.testing import Tester
from sctool.workflows.training import count_steps, create_order, create_rule, training_records

SLICE = 25
"""Steps between two looks at the clock."""
Save = Callable[[SearchState, bool], None]


def run_search(
    experiment: Experiment, state: SearchState, progress: Progress, save: Save, *, skip_dense: bool = False
) -> SearchState:
    """Bring `state` to the end of the run, from wherever it is; `skip_dense` leaves the dense baseline untrained.

    `save(state, due)` is called between any two slices of training; `due` says that a unit of work has just ended.
    The same state always ends in the same weights, however often it was saved and taken up again.
    """
    config = experiment.config.compress
    machine = SearchMachine(experiment, state, progress, save)
    if not skip_dense:
        machine.train_dense()
    if config.start == "dense" and state.round == 0 and not state.branches and state.trunk.step == 0:
        state.trunk = start_from_dense(experiment, state.dense)
    machine.train_teachers()
    machine.train_trunk(config.warm_up_steps, "search", "sparse warm-up")
    while state.round < config.rounds:
        machine.run_round()
    machine.train_to_the_end()
    for model in (state.dense.model, state.trunk.model, state.result.model):
        model.eval()
    return state


def _try_augmentations(experiment: Experiment, proposals: list[Proposal]) -> None:
    """ConfigError, before any training, for an augmentation that the records are not made for."""
    config = experiment.config.compress
    losses = {parse_loss(config.loss, where="compress.loss"), read_teacher_loss(config), *(p.loss for p in proposals)}
    with torch.random.fork_rng(devices=[]):
        for loss in losses:
            augment = loss.build_augmentation()
            if augment:
                augment(experiment.x[:2])


class SearchMachine:
    def __init__(
        self, experiment: Experiment, state: SearchState, progress: Progress, save: Save, slice_steps: int = SLICE
    ) -> None:
        self._experiment, self._state = experiment, state
        self._progress, self._save, self._slice_steps = progress, save, slice_steps
        self._config = experiment.config.compress
        self._proposals = parse_proposals(self._config)
        _try_augmentations(experiment, self._proposals)
        self._tester = Tester(experiment)
        self._orders = {purpose: create_order(experiment, purpose) for purpose in (DENSE_ORDER, SPARSE_ORDER)}
        safety = experiment.config.safety
        self._rank = create_ranking(safety.selection, safety.constraints, safety.tm_tolerance)
        self._total = count_steps(self._config)

    def train_dense(self) -> None:
        """The dense baseline, by plain cross-entropy, unless it was given."""
        if not self._config.dense_checkpoint:
            end = self._config.dense_steps
            loss = parse_loss("cross_entropy", where="dense")
            self._train(self._state.dense, end, DENSE_ORDER, end, "dense", "dense baseline", loss)

    def train_teachers(self) -> None:
        """The soft labels, teacher by teacher."""
        state, config = self._state, self._config
        if not wants_teachers(config, self._proposals):
            return
        if state.soft is None:
            state.soft = torch.zeros(len(self._experiment.x), self._experiment.data.classes)
        soft = state.soft
        loss = read_teacher_loss(config)
        settings = self._experiment.settings(config.teacher_steps, loss)
        rule = Backpropagate(loss.build(config.label_smoothing), loss.build_augmentation())
        while state.taught < config.teachers:
            state.teacher = state.teacher or start_teacher(self._experiment)
            x, y, order = teacher_records(self._experiment, state.taught)
            self._slices(
                state.teacher, x, y, settings, config.teacher_steps, order, rule, "teachers",
                f"teacher {state.taught + 1}/{config.teachers}",
            )  # fmt: skip
            add_predictions(self._experiment, soft, state.teacher, state.taught)
            state.teacher, state.taught = None, state.taught + 1
            self._save(state, True)

    def train_trunk(self, end: int, clock: str, what: str) -> None:
        self._train(self._state.trunk, end, SPARSE_ORDER, self._total, clock, what, self._state.loss)

    def run_round(self) -> None:
        """Propose, train from rung to rung, test, stop the worse half; the winner becomes the trunk."""
        state, config = self._state, self._config
        if not state.branches:
            began = time.perf_counter()
            state.branches = self._propose()
            state.seconds["search"] += time.perf_counter() - began
        first = config.warm_up_steps + state.round * config.steps_per_round
        rungs = [*config.halving, 1.0] if len(state.branches) > 1 else [1.0]
        while state.rung < len(rungs):
            self._train_branches(first + math.ceil(rungs[state.rung] * config.steps_per_round))
            for branch in state.branches:
                if branch.alive:
                    branch.candidate = self._test(branch)
            self._stop_losers(len(rungs) - state.rung)
            state.rung += 1
        self._finish_round()

    def train_to_the_end(self) -> None:
        """Fixed topology; with early stopping, tests on the way."""
        state, step = self._state, self._config.steps_per_round
        if not self._config.early_stopping:
            return self.train_trunk(self._total, "final", "final training")
        first = self._total - self._config.final_steps
        for number in range(max(1, math.ceil(self._config.final_steps / step))):
            if number < sum(record["round"] == state.round for record in state.records):
                continue
            self.train_trunk(min(first + (number + 1) * step, self._total), "final", "final training")
            began = time.perf_counter()
            candidate = self._tester.test(
                state.trunk, Proposal(KEEP, "", state.loss), round_index=state.round, number=number,
                parent=state.parent, seconds=0.0,
            )  # fmt: skip
            state.seconds["final"] += time.perf_counter() - began
            state.records.append(candidate.to_json(selected=False))
            self._remember(Kept(candidate, state.trunk))
            self._save(state, True)
        assert state.best is not None
        for record in state.records:
            if record["round"] == state.round:
                record["selected"] = record["name"] == state.best.candidate.name

    def _train(
        self, state: TrainingState, end: int, purpose: int, total: int, clock: str, what: str, loss: LossSpec
    ) -> None:
        """Train `state` to step `end`, slice by slice."""
        x, y = training_records(self._experiment, purpose)
        rule: GradientRule = Backpropagate()
        if purpose != DENSE_ORDER:
            rule = create_rule(self._experiment, loss, self._state.dense, self._state.soft)
        settings = self._experiment.settings(total, loss)
        self._slices(state, x, y, settings, end, self._orders[purpose], rule, clock, what)

    def _slices(
        self, state: TrainingState, x: Tensor, y: Tensor, settings: TrainingSettings, end: int, order: DataOrder,
        rule: GradientRule, clock: str, what: str,
    ) -> None:  # fmt: skip
        while state.step < end:
            self._progress(state.step, end, what)
            began = time.perf_counter()
            train_until(state, x, y, settings, min(end, state.step + self._slice_steps), order, rule)
            self._state.seconds[clock] += time.perf_counter() - began
            self._save(self._state, state.step == end and clock != "teachers")

    def _propose(self) -> list[Branch]:
        """Branches of the trunk, each with its own change of topology."""
        index = self._state.round
        proposals = proposals_of_round(self._proposals, index, self._config.last_update_round)
        states = carry_out(self._experiment, self._state.trunk, proposals, index)
        pairs = enumerate(zip(proposals, states, strict=True))
        return [Branch(number, proposal, branch) for number, (proposal, branch) in pairs]

    def _train_branches(self, end: int) -> None:
        alive = [branch for branch in self._state.branches if branch.alive]
        if (self._config.jobs or 1) > 1 and len(alive) > 1 and self._experiment.device.type == "cpu":
            return self._train_side_by_side(alive, end)
        for branch in alive:
            began = time.perf_counter()
            what = f"round {self._state.round + 1}/{self._config.rounds}, {branch.proposal}"
            self._train(branch.state, end, SPARSE_ORDER, self._total, "search", what, branch.proposal.loss)
            branch.seconds += time.perf_counter() - began

    def _train_side_by_side(self, alive: list[Branch], end: int) -> None:
        """Piece by piece: between two pieces the run can be saved and stopped."""
        state = self._state
        x, y = (records.numpy() for records in training_records(self._experiment, SPARSE_ORDER))
        while waiting := [branch for branch in alive if branch.state.step < end]:
            what = f"round {state.round + 1}/{self._config.rounds}, {len(alive)} candidates side by side"
            self._progress(min(branch.state.step for branch in waiting), end, what)
            began = time.perf_counter()
            pieces = [
                Piece(
                    branch.state, x, y, self._experiment.settings(self._total, branch.proposal.loss),
                    min(end, branch.state.step + PIECE), self._orders[SPARSE_ORDER],
                    create_rule(self._experiment, branch.proposal.loss, state.dense, state.soft),
                )
                for branch in waiting
            ]  # fmt: skip
            for branch, (trained, seconds) in zip(
                waiting, train_side_by_side(pieces, self._config.jobs or 1), strict=True
            ):
                branch.state = trained
                branch.seconds += seconds
            state.seconds["search"] += time.perf_counter() - began
            self._save(state, all(branch.state.step == end for branch in alive))

    def _test(self, branch: Branch) -> Candidate:
        """The task test and the safety tests."""
        state = self._state
        began = time.perf_counter()
        candidate = self._tester.test(
            branch.state, branch.proposal, round_index=state.round, number=branch.number, parent=state.parent,
            seconds=branch.seconds, attacked=state.trunk,
        )  # fmt: skip
        state.seconds["search"] += time.perf_counter() - began
        return candidate

    def _stop_losers(self, rungs_left: int) -> None:
        """Keep the better half; before the last stretch, and at its end, one. Ties go to the earlier proposal."""
        alive = {branch.candidate.name: branch for branch in self._state.branches if branch.alive and branch.candidate}
        ranked = self._rank([branch.candidate for branch in alive.values() if branch.candidate])
        keep = 1 if rungs_left <= 2 else math.ceil(len(ranked) / 2)
        for candidate in ranked[keep:]:
            alive[candidate.name].alive = False
            self._put_on_front(candidate, alive[candidate.name].state)

    def _finish_round(self) -> None:
        state = self._state
        winner = next(branch for branch in state.branches if branch.alive)
        assert winner.candidate is not None
        for branch in state.branches:
            assert branch.candidate is not None
            state.records.append(branch.candidate.to_json(selected=branch is winner))
        self._put_on_front(winner.candidate, winner.state)
        self._remember(Kept(winner.candidate, winner.state))
        state.trunk, state.parent, state.loss = winner.state, winner.candidate.name, winner.proposal.loss
        state.round, state.rung, state.branches = state.round + 1, 0, []
        self._save(state, True)

    def _remember(self, kept: Kept) -> None:
        """With early stopping: keep a copy where it is the best of all trunks so far; an earlier model wins ties."""
        if not self._config.early_stopping:
            return
        self._state.trunks.append(kept.candidate)
        if self._rank(self._state.trunks)[0] is kept.candidate:
            self._state.best = Kept(kept.candidate, kept.state.branch())

    def _put_on_front(self, candidate: Candidate, trained: TrainingState) -> None:
        """With selection = pareto: keep a copy where nothing seen so far dominates it."""
        safety = self._experiment.config.safety
        if safety.selection != "pareto":
            return
        front = extend_front([kept.candidate for kept in self._state.front], candidate, safety.front_limit)
        known = {kept.candidate.name: kept for kept in self._state.front}
        self._state.front = [known.get(each.name) or Kept(each, trained.branch()) for each in front]
