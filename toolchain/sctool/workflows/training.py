"""From settings to the gradient rule that a state is trained with, and the order of its records."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from sctool.domain.compress_config import CompressConfig
from sctool.errors import ConfigError
from sctool.resources import suggest
from sctool.runtimes.eager import EagerSession
from sctool.sparsity.losses import SOFT, LossSpec
from sctool.sparsity.order import DataOrder
from sctool.sparsity.rules import Backpropagate, Distil, GradientRule
from sctool.sparsity.trainer import TrainingState
from sctool.workflows.experiment import SPARSE_ORDER, Experiment
from sctool.workflows.teachers import soften

OPTIONS: dict[str, dict[str, float]] = {
    "backpropagate": {},
    "distil": {"hard": 0.5, "temperature": 1.0},
    "dmp": {"temperature": 1.0},
    "adversarial": {"strength": 1.0, "attack_steps": 1.0, "attack_rate": 1e-3},
    "private": {"clip": 1.0, "epsilon": 8.0, "delta": 1e-5},
}
"""Rule -> its options and their defaults."""


def read_rule_options(rule: str, given: dict[str, float]) -> dict[str, float]:
    """The options of `rule` with `given` over the defaults; ConfigError for one that it does not have."""
    for name in given:
        if name not in OPTIONS[rule]:
            raise ConfigError(
                f"compress.rule_options: rule {rule!r} has no option {name!r}.", hint=suggest(name, list(OPTIONS[rule]))
            )
    return {**OPTIONS[rule], **given}


def count_steps(config: CompressConfig) -> int:
    """Steps of the sparse model from its start to its end."""
    return config.warm_up_steps + config.rounds * config.steps_per_round + config.final_steps


def needs_dense(config: CompressConfig) -> bool:
    """Whether the method looks at the trained dense model."""
    return config.start == "dense" or config.rule in ("distil", "dmp")


REFERENCE_PARTS = ("validation", "attack_fit_non_members", "attack_select_non_members")
"""Non-members that distillation for membership privacy trains on, and so spends."""


def training_records(experiment: Experiment, purpose: int) -> tuple[Tensor, Tensor]:
    """x [N, ...], y [N] that steps of `purpose` see: the members, or, for DMP's student, reference records."""
    if experiment.config.compress.rule != "dmp" or purpose != SPARSE_ORDER:
        return experiment.x, experiment.y
    return experiment.records(np.concatenate([experiment.split[part] for part in REFERENCE_PARTS]))


def create_order(experiment: Experiment, purpose: int) -> DataOrder:
    """Shuffled epochs; for private training of the sparse model, Poisson batches."""
    config = experiment.config.compress
    records = len(training_records(experiment, purpose)[0])
    kind = DataOrder
    if config.rule == "private" and purpose == SPARSE_ORDER:
        from sctool.sparsity.private import PoissonOrder

        kind = PoissonOrder
    return kind(records, config.batch_size, config.seed, purpose)


def create_rule(experiment: Experiment, loss: LossSpec, dense: TrainingState, soft: Tensor | None) -> GradientRule:
    """The rule of compress.rule, training on `loss`; `dense` is the teacher of "distil", `soft` are soft labels."""
    config = experiment.config.compress
    if loss.name == SOFT and soft is not None:
        target = soften(soft, config.teacher_temperature).to(experiment.device)
        return Distil(target, min(loss.strength, 1.0), augment=loss.build_augmentation())
    build, augment = loss.build(config.label_smoothing), loss.build_augmentation()
    options = read_rule_options(config.rule, config.rule_options)
    if config.rule in ("distil", "dmp"):
        x, _ = training_records(experiment, SPARSE_ORDER)
        teacher = torch.from_numpy(EagerSession(dense.model.eval()).run(x.cpu().numpy())).to(experiment.device)
        return Distil(teacher, options.get("hard", 0.0), options["temperature"], augment)
    if config.rule == "private":
        from sctool.sparsity.private import PrivateGradient

        noise = describe_privacy(experiment)["noise_multiplier"]
        expected = min(config.batch_size, len(experiment.x))
        return PrivateGradient(options["clip"], noise, expected_batch=expected, loss=build)
    if config.rule == "adversarial":
        from sctool.sparsity.adversarial import AdversarialRegularisation

        x, y = experiment.records(experiment.split["attack_fit_non_members"])
        return AdversarialRegularisation(
            x, y, strength=options["strength"], attack_steps=int(options["attack_steps"]),
            attack_rate=options["attack_rate"], loss=build,
        )  # fmt: skip
    return Backpropagate(build, augment)


def describe_privacy(experiment: Experiment) -> dict[str, Any]:
    """(epsilon, delta) of private training, the noise it takes, and whether the guarantee covers the whole search.

    It does where nothing but noisy gradients decides: one proposal a round, no gradient in its criteria, a random start
    and no early stopping.
    """
    from sctool.sparsity.accountant import epsilon, noise_for

    config = experiment.config.compress
    options = read_rule_options(config.rule, config.rule_options)
    rate = min(1.0, config.batch_size / len(experiment.x))
    steps, delta = count_steps(config), options["delta"]
    noise = noise_for(options["epsilon"], rate, steps, delta)
    blind = {f"{drop}/{grow}" for drop in ("magnitude", "set", "threshold") for grow in ("random", "unfired")}
    covered = config.rounds == 0 or (len(config.candidates) == 1 and set(config.candidates) <= {*blind, "keep"})
    return {
        "noise_multiplier": noise, "epsilon": epsilon(noise, rate, steps, delta), "delta": delta, "clip": options["clip"],
        "covers_the_search": covered and config.start == "random" and not config.early_stopping,
    }  # fmt: skip
