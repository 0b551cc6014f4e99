"""Runs at masks that stay, several trained as one program: shadow models."""

from __future__ import annotations

from collections.abc import Sequence

from sctool.sparsity.losses import LossSpec
from sctool.sparsity.stacked import Lane, train_lanes
from sctool.sparsity.topology import Masks
from sctool.workflows.experiment import SPARSE_ORDER, Experiment
from sctool.workflows.progress import ignore_progress
from sctool.workflows.search import SearchMachine
from sctool.workflows.search_state import SearchState
from sctool.workflows.start import start_from_dense, start_random
from sctool.workflows.training import count_steps, create_order, create_rule, training_records

UNBROKEN = 2**62
"""Steps between two looks at the clock, where nobody looks at it."""


def train_stretches(
    members: Sequence[tuple[Experiment, SearchState]], masks: Masks, stretches: list[tuple[LossSpec, int]], *,
    skip_dense: bool = False,
) -> None:  # fmt: skip
    """Train the trunk of each fresh state at `masks`, which stay: with each loss until its step, schedules as in a run.

    Trunks train as one program where they can; their dense models and teachers one by one before.
    """
    for experiment, state in members:
        machine = SearchMachine(experiment, state, ignore_progress, lambda *_: None, slice_steps=UNBROKEN)
        if not skip_dense:
            machine.train_dense()
        from_dense = experiment.config.compress.start == "dense"
        state.trunk = (
            start_from_dense(experiment, state.dense, masks) if from_dense else start_random(experiment, masks)
        )
        machine.train_teachers()
    for loss, end in stretches:
        train_lanes([_make_lane(experiment, state, loss) for experiment, state in members], end)
        for _, state in members:
            state.loss = loss


def _make_lane(experiment: Experiment, state: SearchState, loss: LossSpec) -> Lane:
    """The trunk's training with `loss`."""
    x, y = training_records(experiment, SPARSE_ORDER)
    settings = experiment.settings(count_steps(experiment.config.compress), loss)
    rule = create_rule(experiment, loss, state.dense, state.soft)
    return Lane(state.trunk, x, y, settings, create_order(experiment, SPARSE_ORDER), rule)
