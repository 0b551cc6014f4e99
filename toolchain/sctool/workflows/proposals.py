"""What may compete in a round: a change of topology and a loss to train with, and how each is carried out."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sctool.domain.compress_config import CompressConfig
from sctool.errors import ConfigError
from sctool.resources import suggest
from sctool.sparsity.density import Counts
from sctool.sparsity.drop import DROPS
from sctool.sparsity.grow import GROWS, SAFETY_AWARE
from sctool.sparsity.losses import SOFT, LossSpec, parse_loss
from sctool.sparsity.schedule import drop_fraction_at, extra_share_at
from sctool.sparsity.trainer import (
    RoundGradients,
    TrainingState,
    apply_masks,
    change_topology,
    dense_gradients,
)  # fmt: skip
from sctool.workflows.experiment import ROUND_GRADIENT, TOPOLOGY, Experiment
from sctool.workflows.start import keep_largest, plan_counts
from sctool.workflows.teachers import check_teachers, read_teacher_loss

GRADIENT_RECORDS = 512
KEEP = "keep"
"""The drop of a candidate that leaves the topology as it is."""


@dataclass(frozen=True)
class Proposal:
    """drop and grow criterion (grow is empty where drop is "keep"), and the loss."""

    drop: str
    grow: str
    loss: LossSpec

    def __str__(self) -> str:
        topology = f"{self.drop}/{self.grow}" if self.grow else self.drop
        return topology if str(self.loss) == "cross_entropy" else f"{topology}/{self.loss}"


def parse_proposals(config: CompressConfig) -> list[Proposal]:
    """ "drop/grow", "drop/grow/loss", "keep" and "keep/loss" -> proposals; ConfigError with the nearest valid name."""
    if not config.candidates and config.rounds:
        raise ConfigError("compress.candidates is empty.", hint="Give at least one drop/grow pair, or rounds = 0.")
    base = parse_loss(config.loss, where="compress.loss")
    proposals = [_parse_one(text, base) for text in config.candidates] if config.rounds else []
    soft = wants_teachers(config, proposals)
    check_teachers(config.teachers, config.teachers_without, soft)
    read_teacher_loss(config)
    if soft and config.rule != "backpropagate":
        raise ConfigError(
            f"Loss 'soft' does not go with compress.rule = {config.rule!r}.", hint="Leave one of the two out."
        )
    for loss in (base, *(proposal.loss for proposal in proposals)):
        if loss.regularisers and config.rule in ("adversarial", "private"):
            raise ConfigError(
                f"compress.rule = {config.rule!r} does not go with the regularisers of {str(loss)!r}.",
                hint='Set compress.loss = "cross_entropy" and candidates without "+"; compress.weight_decay is for all.',
            )
    return proposals


def wants_teachers(config: CompressConfig, proposals: list[Proposal]) -> bool:
    """Whether the run or a proposal of it trains on soft labels."""
    base = parse_loss(config.loss, where="compress.loss")
    return any(loss.name == SOFT for loss in (base, *(proposal.loss for proposal in proposals)))


def _parse_one(text: str, base: LossSpec) -> Proposal:
    drop, *rest = text.split("/")
    if drop == KEEP:
        grow, loss = "", rest
    else:
        grow, loss = rest[0] if rest else "", rest[1:]
        for kind, name, valid in (("drop", drop, DROPS), ("grow", grow, GROWS)):
            if name not in valid:
                raise ConfigError(
                    f"compress.candidates: unknown {kind} {name!r} in {text!r}.", hint=suggest(name, list(valid))
                )
    if len(loss) > 1:
        raise ConfigError(
            f"compress.candidates: too many parts in {text!r}.", hint="Write drop/grow, drop/grow/loss or keep/loss."
        )
    return Proposal(drop, grow, parse_loss(loss[0], where="compress.candidates") if loss else base)


def proposals_of_round(proposals: list[Proposal], index: int, last_update_round: int) -> list[Proposal]:
    """The proposals of round `index`; after the last update only the losses compete, each once."""
    if not last_update_round or index < last_update_round:
        return proposals
    return list(dict.fromkeys(Proposal(KEEP, "", each.loss) for each in proposals))


def carry_out(
    experiment: Experiment, trunk: TrainingState, proposals: list[Proposal], index: int
) -> list[TrainingState]:
    """A branch of `trunk` for each proposal of round `index`, its topology changed, not trained yet."""
    config = experiment.config.compress
    gradients = _round_gradients(experiment, trunk, proposals, index)
    fraction = drop_fraction_at(
        index, config.last_update_round or config.rounds, config.drop_fraction, config.drop_decay
    )
    branches = []
    for number, proposal in enumerate(proposals):
        branch = trunk.branch()
        if config.density_schedule == "gradual":
            counts = plan_counts(experiment, branch.model)
            _thin_out(experiment, branch, counts, extra_share_at(index, config.last_update_round or config.rounds))
        if proposal.drop != KEEP and gradients is not None:
            change_topology(
                branch, gradients, drop=proposal.drop, grow=proposal.grow, fraction=fraction,
                generator=experiment.generator(TOPOLOGY, index, number), constant_fan_in=config.fan_in == "constant",
            )  # fmt: skip
        branches.append(branch)
    return branches


def _thin_out(experiment: Experiment, state: TrainingState, final: Counts, kept: float) -> None:
    """Keep each layer's largest weights: its final count and the share `kept` of the rest (GMP, Zhu & Gupta 2017)."""
    parameters = dict(state.model.named_parameters())
    existing = {name: parameters[name].detach() * mask for name, mask in state.masks.items()}
    counts = {
        name: min(int(mask.sum()), final[name] + int(kept * (mask.numel() - final[name])))
        for name, mask in state.masks.items()
    }
    chosen = keep_largest(experiment, existing, counts)
    state.masks = {name: chosen[name] & mask for name, mask in state.masks.items()}
    apply_masks(state)


def _round_gradients(
    experiment: Experiment, trunk: TrainingState, proposals: list[Proposal], index: int
) -> RoundGradients | None:
    """Dense gradients on a draw of training records; where a safety-aware pair competes, also on `attack_fit`."""
    if all(proposal.drop == KEEP for proposal in proposals):
        return None
    generator = experiment.generator(ROUND_GRADIENT, index)
    rows = torch.randperm(len(experiment.x), generator=generator)[:GRADIENT_RECORDS]
    training = dense_gradients(trunk.model, experiment.x[rows], experiment.y[rows])
    if not any(name in SAFETY_AWARE for proposal in proposals for name in (proposal.drop, proposal.grow)):
        return RoundGradients(training)
    sides: list[dict[str, Tensor]] = []
    for side in ("members", "non_members"):
        x, y = experiment.records(experiment.split[f"attack_fit_{side}"][:GRADIENT_RECORDS])
        sides.append(dense_gradients(trunk.model, x, y))
    return RoundGradients(training, *sides)
