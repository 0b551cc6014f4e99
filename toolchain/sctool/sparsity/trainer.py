"""Masked SGD: the trunk that all candidates branch from. One state in, one state out, no hidden globals."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional

from sctool.errors import TrainingError
from sctool.sparsity.allocator import keep_freed_memory
from sctool.sparsity.device import HALF_SCALE, autocast, device_of, seed_noise
from sctool.sparsity.evidence import LayerEvidence
from sctool.sparsity.order import DataOrder
from sctool.sparsity.reorder import pool_before_relu
from sctool.sparsity.rules import Backpropagate, GradientRule
from sctool.sparsity.schedule import learning_rate_at
from sctool.sparsity.sparse_linear import Plan, SparseWeight, find_sparse_layers, run_sparsely, runs_alike
from sctool.sparsity.topology import Masks, update_topology


@dataclass(frozen=True)
class TrainingSettings:
    """`noise_seed`: the seed of what the model draws itself (dropout), the step added.

    `dense_momentum`: whether momenta are wanted outside the masks too, which growth by momentum looks at.
    """

    learning_rate: float
    momentum: float
    weight_decay: float
    total_steps: int
    schedule: str = "cosine"
    noise_seed: int = 0
    dense_momentum: bool = False


@dataclass
class TrainingState:
    """A model, its masks, the momentum buffers and the step: all that a candidate inherits from its parent.

    `momenta`: of the gradients, outside the masks too where the settings ask; a weight that grows begins with none.
    `plans`: where sparse execution finds the non-zeros; `alike`: the layers that it was tried with, and whether the
    model answered alike.
    `fired`: masks of all positions that ever held a weight; `extras`: what a gradient rule remembers, by name;
    `precision`: what forward passes are autocast to. All tensors are on the model's device.
    """

    model: nn.Module
    masks: Masks
    momenta: dict[str, Tensor]
    fired: Masks
    step: int = 0
    extras: dict[str, Tensor] = field(default_factory=dict)
    precision: torch.dtype | None = None
    plans: dict[str, Plan] = field(default_factory=dict, repr=False)
    alike: dict[tuple[str, ...], bool] = field(default_factory=dict, repr=False)

    @property
    def exploration(self) -> float:
        """Share of the maskable positions that ever held a weight (the in-time over-parametrisation of ITOP)."""
        return sum(int(m.sum()) for m in self.fired.values()) / max(sum(m.numel() for m in self.fired.values()), 1)

    def branch(self) -> TrainingState:
        """A copy that can be trained on without touching this one."""
        return TrainingState(
            copy.deepcopy(self.model),
            {name: mask.clone() for name, mask in self.masks.items()},
            {name: buffer.clone() for name, buffer in self.momenta.items()},
            {name: mask.clone() for name, mask in self.fired.items()},
            self.step,
            {name: value.clone() for name, value in self.extras.items()},
            self.precision,
            alike=dict(self.alike),
        )

    def forward(self, x: Tensor) -> Tensor:
        """x [B, ...] -> logits float32 [B, C]."""
        with autocast(x.device, self.precision):
            logits: Tensor = self.model(x)
        return logits.float()

    def backward(self, value: Tensor) -> Tensor:
        """Fill `.grad` of the model with the gradients of `value`; returns it, detached."""
        self.model.zero_grad(set_to_none=True)
        scale = HALF_SCALE if self.precision == torch.float16 else 1.0
        (value * scale if scale != 1 else value).backward()  # type: ignore[no-untyped-call]
        if scale != 1:
            for parameter in self.model.parameters():
                if parameter.grad is not None:
                    parameter.grad.div_(scale)
        return value.detach()


def start_training(model: nn.Module, masks: Masks, precision: torch.dtype | None = None) -> TrainingState:
    """The state before the first step: weights outside the masks are set to zero."""
    momenta = {name: torch.zeros_like(parameter) for name, parameter in model.named_parameters()}
    masks = {name: mask.to(device_of(model)) for name, mask in masks.items()}
    state = TrainingState(model, masks, momenta, {name: mask.clone() for name, mask in masks.items()}, 0, {}, precision)
    apply_masks(state)
    return state


def apply_masks(state: TrainingState) -> None:
    """Set every weight outside its mask to +0.0."""
    parameters = dict(state.model.named_parameters())
    with torch.no_grad():
        for name, mask in state.masks.items():
            parameters[name].masked_fill_(~mask, 0.0)


def train_until(
    state: TrainingState, x: Tensor, y: Tensor, settings: TrainingSettings, end: int, order: DataOrder,
    rule: GradientRule | None = None,
) -> float:  # fmt: skip
    """Train `state` in place on x [N, ...], y [N] until its step is `end`; returns the mean loss of these steps.

    `rule` makes a batch into gradients (default: plain cross-entropy). What a step does follows from the state and its
    step alone, dropout included, so that stopping between steps and going on later changes nothing. Raises
    TrainingError, naming the step, when the loss is not finite.
    """
    rule = rule or Backpropagate()
    keep_freed_memory()
    state.model.train()
    total, steps = torch.zeros((), device=device_of(state.model)), end - state.step
    with (
        torch.random.fork_rng(devices=[]),
        pool_before_relu(state.model, x[:2]),
        _choose_execution(state, settings, rule, x) as parts,
    ):
        parameters = dict(state.model.named_parameters())
        while state.step < end:
            seed_noise(x.device, settings.noise_seed + state.step)
            loss = rule(state, x, y, order.rows(state.step), state.step // order.steps_per_epoch)
            check_loss(loss, state.step, settings)
            total += loss
            _update_parameters(state, parameters, settings, parts)
            state.step += 1
        state.model.zero_grad(set_to_none=True)
    apply_masks(state)
    return float(total / max(steps, 1))


def check_loss(loss: Tensor, step: int, settings: TrainingSettings) -> None:
    """TrainingError where the loss of step `step` is not finite."""
    if not torch.isfinite(loss):
        raise TrainingError(
            f"The loss became {loss.item()} at step {step}.",
            hint=f"Lower compress.learning_rate (now {settings.learning_rate}) and check the data's scale.",
        )


def _choose_execution(
    state: TrainingState, settings: TrainingSettings, rule: GradientRule, x: Tensor
) -> AbstractContextManager[dict[str, SparseWeight]]:
    """On non-zeros alone where nothing asks for dense gradients at every step."""
    if settings.dense_momentum or state.precision is not None or getattr(rule, "needs_dense_weights", False):
        return nullcontext({})
    layers = find_sparse_layers(state.model, state.masks)
    known = tuple(layers)
    if layers and known not in state.alike:
        state.alike[known] = runs_alike(state.model, layers, state.masks, state.momenta, x[:2])
    return run_sparsely(layers if state.alike.get(known) else {}, state.masks, state.momenta, state.plans)


@contextmanager
def answer_sparsely(state: TrainingState) -> Iterator[nn.Module]:
    """Within: the model in eval mode, its layers on their non-zeros where training has found that they answer alike."""
    layers = find_sparse_layers(state.model, state.masks)
    chosen = layers if state.alike.get(tuple(layers)) else {}
    with run_sparsely(chosen, state.masks, state.momenta, state.plans):
        yield state.model.eval()


def _update_parameters(
    state: TrainingState,
    parameters: dict[str, nn.Parameter],
    settings: TrainingSettings,
    parts: dict[str, SparseWeight],
) -> None:
    """One step of SGD with Nesterov momentum and weight decay on what the masks let through.

    The momentum is of the dense gradient where that is known, as Dettmers & Zettlemoyer (2019) grow by it.
    """
    known = {name: parameter.grad for name, parameter in parameters.items() if parameter.grad is not None}
    names, gradients = list(known), list(known.values())
    values = [parameters[name].data for name in names]
    buffers = [parts[name].momentum if name in parts else state.momenta[name] for name in names]
    masked = {i: state.masks[name] for i, name in enumerate(names) if name in state.masks and name not in parts}
    move_parameters(values, gradients, buffers, settings, state.step, masked)


def move_parameters(
    values: list[Tensor], gradients: list[Tensor], buffers: list[Tensor], settings: TrainingSettings, step: int,
    masks: Mapping[int, Tensor],
) -> None:  # fmt: skip
    """SGD with Nesterov momentum and weight decay, in place; `masks`, by the tensors' numbers, hold the step back.
    `gradients` are spent."""
    rate = learning_rate_at(step, settings.total_steps, settings.learning_rate, settings.schedule)
    with torch.no_grad():
        torch._foreach_add_(gradients, values, alpha=settings.weight_decay)
        torch._foreach_mul_(buffers, settings.momentum)
        torch._foreach_add_(buffers, gradients)
        torch._foreach_add_(gradients, buffers, alpha=settings.momentum)
        for number, mask in masks.items():
            gradients[number].mul_(mask)
        torch._foreach_sub_(values, gradients, alpha=rate)


def dense_gradients(model: nn.Module, x: Tensor, y: Tensor) -> Masks:
    """Parameter name -> gradient of the mean loss on x [N, ...], y [N], also where the mask is False (RigL).

    In eval mode: BatchNorm statistics stay as they were.
    """
    model.eval()
    model.zero_grad(set_to_none=True)
    functional.cross_entropy(model(x), y).backward()  # type: ignore[no-untyped-call]
    gradients = {
        name: torch.zeros_like(parameter) if parameter.grad is None else parameter.grad.clone()
        for name, parameter in model.named_parameters()
    }
    model.zero_grad(set_to_none=True)
    return gradients


@dataclass(frozen=True)
class RoundGradients:
    """Dense gradients of a round's parent, shared by its candidates; those of members and non-members where wanted."""

    training: Masks
    members: Masks | None = None
    non_members: Masks | None = None


def change_topology(
    state: TrainingState, gradients: RoundGradients, *, drop: str, grow: str, fraction: float,
    generator: torch.Generator,
) -> None:  # fmt: skip
    """One drop x grow update of every masked layer of `state`, in place; grown weights start at zero, at rest.

    Decided on the CPU, whatever the device: every device grows the same positions.
    """
    parameters = dict(state.model.named_parameters())
    for name in sorted(state.masks):
        gradient, device = gradients.training[name].cpu(), parameters[name].device
        evidence = LayerEvidence(
            parameters[name].detach().cpu(), state.masks[name].cpu(), gradient, state.momenta[name].cpu() + gradient,
            state.fired[name].cpu(),
            gradients.members[name].cpu() if gradients.members else None,
            gradients.non_members[name].cpu() if gradients.non_members else None,
        )  # fmt: skip
        mask, grown = update_topology(evidence, drop=drop, grow=grow, fraction=fraction, generator=generator)
        state.masks[name], grown = mask.to(device), grown.to(device)
        state.fired[name] = state.fired[name] | grown
        state.momenta[name].masked_fill_(grown, 0.0)
    apply_masks(state)
