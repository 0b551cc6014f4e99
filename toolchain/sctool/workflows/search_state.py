"""What a run of the search is at one moment: all of it is saved, and goes on from there."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from sctool.domain.candidate import Candidate
from sctool.sparsity.losses import LossSpec, parse_loss
from sctool.sparsity.trainer import TrainingState
from sctool.workflows.experiment import Experiment
from sctool.workflows.proposals import Proposal
from sctool.workflows.start import find_layers, start_dense, start_random


@dataclass
class Branch:
    """A candidate under way: what it proposes, its state, and its figures once it was tested."""

    number: int
    proposal: Proposal
    state: TrainingState
    seconds: float = 0.0
    candidate: Candidate | None = None
    alive: bool = True


@dataclass
class Kept:
    """A tested model, as it was then."""

    candidate: Candidate
    state: TrainingState


@dataclass
class SearchState:
    """All that a run is at one moment, apart from what its config says.

    `soft` [N, C]: soft labels so far, by `taught` teachers, and `teacher` is the one under way.
    `loss`: what the trunk trains with; `trunks`: the tests that early stopping chooses among, and `best`, its choice;
    `front`: the models that no other dominates, with selection = pareto.
    """

    dense: TrainingState
    trunk: TrainingState
    left_dense: list[dict[str, str]]
    loss: LossSpec
    soft: Tensor | None = None
    teacher: TrainingState | None = None
    taught: int = 0
    round: int = 0
    rung: int = 0
    branches: list[Branch] = field(default_factory=list)
    parent: str = "initial"
    records: list[dict[str, Any]] = field(default_factory=list)
    trunks: list[Candidate] = field(default_factory=list)
    best: Kept | None = None
    front: list[Kept] = field(default_factory=list)
    seconds: dict[str, float] = field(
        default_factory=lambda: {"dense": 0.0, "teachers": 0.0, "search": 0.0, "final": 0.0}
    )

    @property
    def result(self) -> TrainingState:
        """The model that the run ends with."""
        return self.best.state if self.best else self.trunk


def start_search(experiment: Experiment) -> SearchState:
    """The state before the first step, of the dense baseline and of the sparse trunk."""
    loss = parse_loss(experiment.config.compress.loss, where="compress.loss")
    dense = start_dense(experiment)
    _, left = find_layers(experiment, dense.model)
    return SearchState(dense, start_random(experiment), left, loss)
