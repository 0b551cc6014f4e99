"""Where a search begins: a random sparse model, or a dense one whose largest weights stay."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from sctool.domain.target import load_target
from sctool.errors import ConfigError
from sctool.resources import suggest
from sctool.sparsity.cost import count_positions, measured_costs
from sctool.sparsity.density import DISTRIBUTIONS, Counts
from sctool.sparsity.fan_in import largest_in_rows, random_rows, round_to_rows
from sctool.sparsity.maskable import find_maskable
from sctool.sparsity.topology import Masks, magnitude_masks, random_masks
from sctool.sparsity.trainer import TrainingState, start_training
from sctool.workflows.experiment import INITIAL_MASKS, INITIAL_WEIGHTS, Experiment
from sctool.workflows.kernels import target_isa
from sctool.workflows.run_directory import read_tensors


def find_layers(experiment: Experiment, model: nn.Module) -> tuple[list[str], list[dict[str, str]]]:
    """(weights to mask, those left dense with the reason). ConfigError where none can be masked."""
    config = experiment.config.compress
    known = [name for name, _ in model.named_parameters()]
    for name in config.leave_dense:
        if name not in known:
            raise ConfigError(f"compress.leave_dense: the model has no parameter {name!r}.", hint=suggest(name, known))
    names, left = find_maskable(model, config.leave_dense)
    for policy, position in ((config.first_layer, 0), (config.last_layer, -1)):
        if policy == "dense" and names:
            which = "first" if position == 0 else "last"
            left.append({"layer": names.pop(position), "reason": f"compress.{which}_layer is dense"})
    if not names:
        raise ConfigError(
            f"Model {experiment.config.model.source!r} has no weight that can be masked.",
            hint="sctool masks Linear and Conv weights; check compress.leave_dense, first_layer and last_layer.",
        )
    return names, left


def plan_counts(experiment: Experiment, model: nn.Module) -> Counts:
    """Weight name -> non-zeros that it keeps in the end."""
    config = experiment.config.compress
    names, _ = find_layers(experiment, model)
    parameters = dict(model.named_parameters())
    shapes = {name: tuple(parameters[name].shape) for name in names}
    costs = _costs(experiment, model) if config.distribution == "latency" else {}
    counts = DISTRIBUTIONS[config.distribution](shapes, config.density, costs)
    return round_to_rows(shapes, counts) if config.fan_in == "constant" else counts


def _costs(experiment: Experiment, model: nn.Module) -> dict[str, float]:
    """Weight name -> what a non-zero of it takes at run time, by compress.latency_costs."""
    by, shape = experiment.config.compress.latency_costs or "target", experiment.data.x.shape[1:]
    if by == "positions":
        return {name: float(count) for name, count in count_positions(model, shape).items()}
    isa = target_isa(load_target(experiment.config.export.target)) if by == "target" else by
    return measured_costs(model, shape, isa)


def start_dense(experiment: Experiment) -> TrainingState:
    """The dense baseline before its first step, or, with compress.dense_checkpoint, as it was given."""
    model = experiment.build()
    given = experiment.config.compress.dense_checkpoint
    if given:
        load_checkpoint(model, Path(given))
    return start_training(model, {}, experiment.precision)


def load_checkpoint(model: nn.Module, path: Path) -> None:
    """Fill `model` from a .safetensors state dict; ArtifactError, ConfigError where it cannot be read or does not fit."""
    tensors = read_tensors(path)
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        raise ConfigError(
            f"compress.dense_checkpoint = {str(path)!r} does not fit the model: {' '.join(str(error).split())[:200]}.",
            hint="Save model.state_dict() of the very model with safetensors.torch.save_file.",
        ) from error


def start_random(experiment: Experiment, masks: Masks | None = None) -> TrainingState:
    """Random masks, or those given, and, by compress.initialisation, the model's own weights or He's for the sparse
    fan-in. With the gradual schedule and no masks given, everything is still there.
    """
    model = experiment.build()
    parameters = dict(model.named_parameters())
    if masks is None:
        counts = plan_counts(experiment, model)
        shapes = {name: tuple(parameters[name].shape) for name in counts}
        if experiment.config.compress.density_schedule == "gradual":
            return start_training(model, _everything(shapes), experiment.precision)
        draw = random_rows if experiment.config.compress.fan_in == "constant" else random_masks
        masks = draw(shapes, counts, experiment.generator(INITIAL_MASKS))
    masks = {name: masks[name] for name in parameters if name in masks}  # whatever their order, the same draws
    if experiment.config.compress.initialisation == "sparse_he":
        draw_weights({name: parameters[name] for name in masks}, masks, experiment.generator(INITIAL_WEIGHTS))
    return start_training(model, masks, experiment.precision)


def draw_weights(weights: dict[str, nn.Parameter], masks: Masks, generator: torch.Generator) -> None:
    """Normal weights of variance 2 / (inputs that the output still has): activations keep their variance.

    He et al. 2015 for the fan-in of each output alone, as Evci et al., "Gradient flow in sparse neural networks" (AAAI
    2022, section 3.1).
    """
    with torch.no_grad():
        for name, weight in weights.items():
            fan_in = masks[name].flatten(1).sum(1).clamp(min=1).view(-1, *[1] * (weight.ndim - 1))
            weight.copy_(torch.randn(weight.shape, generator=generator) * (2 / fan_in).sqrt())


def start_from_dense(experiment: Experiment, dense: TrainingState, masks: Masks | None = None) -> TrainingState:
    """The trained dense model with the largest weights of each layer (all, with the gradual schedule), or with those that
    `masks` let through; step 0."""
    model = experiment.build()
    model.load_state_dict(dense.model.state_dict())
    if masks is not None:
        return start_training(model, masks, experiment.precision)
    counts = plan_counts(experiment, model)
    parameters = dict(model.named_parameters())
    weights = {name: parameters[name].detach() for name in counts}
    if experiment.config.compress.density_schedule == "gradual":
        everything = _everything({name: tuple(w.shape) for name, w in weights.items()})
        return start_training(model, everything, experiment.precision)
    return start_training(model, keep_largest(experiment, weights, counts), experiment.precision)


def keep_largest(experiment: Experiment, weights: dict[str, Tensor], counts: Counts) -> Masks:
    """Masks of the largest weights: of each layer, or, with a constant fan-in, of each output."""
    if experiment.config.compress.fan_in == "constant":
        shapes = {name: tuple(weight.shape) for name, weight in weights.items()}
        return largest_in_rows(weights, round_to_rows(shapes, counts))
    return magnitude_masks(weights, counts)


def _everything(shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    return {name: torch.ones(shape, dtype=torch.bool) for name, shape in shapes.items()}
