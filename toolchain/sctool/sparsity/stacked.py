"""Several chains of linear layers with the same masks, trained as one program: shadow models are many and alike.

Activations of K models are one matrix [K I, B], and a sparse layer is one product with K blocks on its diagonal. The
arithmetic is that of K models trained one after another; what is saved is what each operation costs beside it, which for
small batches is more than the arithmetic.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from sctool.sparsity.allocator import keep_freed_memory
from sctool.sparsity.chain import find_chain
from sctool.sparsity.device import seed_noise
from sctool.sparsity.order import DataOrder
from sctool.sparsity.rules import ByBatch, GradientRule
from sctool.sparsity.sparse_linear import Plan, can_run_sparsely, find_sparse_layers, make_plan
from sctool.sparsity.trainer import (
    TrainingSettings,
    TrainingState,
    apply_masks,
    check_loss,
    move_parameters,
    train_until,
)

LARGEST_DENSE = 2**16
"""Weights of a layer that is not sparse: larger ones are no faster together (benchmarks/README.md)."""


@dataclass(frozen=True)
class Lane:
    """One model of several: all that `train_until` would be given."""

    state: TrainingState
    x: Tensor
    y: Tensor
    settings: TrainingSettings
    order: DataOrder
    rule: GradientRule


def train_lanes(lanes: Sequence[Lane], end: int) -> None:
    """Train every lane's state in place until its step is `end`: as one program where that can be, else one by one.

    The results are those of `train_until` but for rounding. Raises TrainingError, naming the step, for a loss that is not
    finite.
    """
    if not can_stack(lanes):
        for lane in lanes:
            train_until(lane.state, lane.x, lane.y, lane.settings, end, lane.order, lane.rule)
        return
    keep_freed_memory()
    stack = _Stack(lanes)
    for lane in lanes:
        lane.state.model.train()
    with torch.random.fork_rng(devices=[]):
        for step in range(lanes[0].state.step, end):
            stack.step(step)
    stack.hand_back(end)


def can_stack(lanes: Sequence[Lane]) -> bool:
    """Whether the lanes are chains of linear layers alike in shape, masks, step and settings, whose large layers are all
    sparse: dense ones are no faster together (benchmarks/README.md)."""
    first = lanes[0]
    return len(lanes) > 1 and _is_plain(first) and all(_is_plain(lane) and _alike(first, lane) for lane in lanes[1:])


def suits_stacking(model: nn.Module, masks: Mapping[str, Tensor]) -> bool:
    """Whether models like this one, at these masks, can be trained together."""
    chain = find_chain(model)
    if chain is None or any(isinstance(layer, nn.Dropout) for layer in chain):
        return False
    layers = {f"{name}.weight": layer for name, layer in model.named_modules() if isinstance(layer, nn.Linear)}
    if len({id(layer.weight) for layer in layers.values()}) < len(layers):
        return False
    sparse = find_sparse_layers(model, masks)
    small = all(name in sparse or layer.weight.numel() <= LARGEST_DENSE for name, layer in layers.items())
    return bool(sparse) and small and all(parameter.requires_grad for parameter in chain.parameters())


def _is_plain(lane: Lane) -> bool:
    state = lane.state
    by_batch = isinstance(lane.rule, ByBatch) and not lane.settings.dense_momentum and state.precision is None
    return by_batch and suits_stacking(state.model, state.masks)


def _alike(one: Lane, other: Lane) -> bool:
    shapes = [
        [(name, tuple(p.shape)) for name, p in lane.state.model.named_parameters()]
        + [(str(type(layer)), ()) for layer in cast(nn.Sequential, find_chain(lane.state.model))]
        for lane in (one, other)
    ]
    masks, others = one.state.masks, other.state.masks
    return (
        shapes[0] == shapes[1]
        and one.state.step == other.state.step
        and replace(one.settings, noise_seed=0) == replace(other.settings, noise_seed=0)
        and masks.keys() == others.keys()
        and all(masks[name] is others[name] or torch.equal(masks[name], others[name]) for name in masks)
    )


@dataclass
class _Parameter:
    """The parameter `name` of all K models: `values`, a leaf, and its momentum, both [K, ...]; of a sparse weight the
    non-zeros alone, [K, n], which lie at `flat` [n] of the dense one."""

    name: str
    values: Tensor
    momentum: Tensor
    flat: Tensor | None = None
    mask: Tensor | None = None

    def write(self, number: int, stacked: Tensor, dense: Tensor) -> None:
        """Model `number`'s part of `stacked` into its own tensor."""
        if self.flat is None:
            dense.copy_(stacked[number])
        else:
            dense.view(-1)[self.flat] = stacked[number].detach()


class _Stack:
    def __init__(self, lanes: Sequence[Lane]) -> None:
        self._lanes = lanes
        self._parameters: list[_Parameter] = []
        self._layers: list[Callable[[Tensor], Tensor]] = []
        first = lanes[0].state
        names = {id(parameter): name for name, parameter in first.model.named_parameters()}
        for layer in cast(nn.Sequential, find_chain(first.model)):
            if isinstance(layer, nn.Linear):
                self._layers.append(self._add_linear(layer, names))
            elif not isinstance(layer, nn.Flatten | nn.Identity):
                self._layers.append(layer)

    def _add_linear(self, layer: nn.Linear, names: dict[int, str]) -> Callable[[Tensor], Tensor]:
        name, count = names[id(layer.weight)], len(self._lanes)
        mask = self._lanes[0].state.masks.get(name)
        bias = self._stack(names[id(layer.bias)]).values.unsqueeze(2) if layer.bias is not None else None
        if mask is None or not can_run_sparsely(layer, mask):
            weight = self._stack(name, mask=mask).values
            return lambda x: weight @ x if bias is None else torch.baddbmm(bias, weight, x)
        single = make_plan(mask)
        plan, values = _repeat(single, count), self._stack(name, flat=single.flat).values

        def forward(x: Tensor) -> Tensor:
            flat: Tensor = _Multiply.apply(x.reshape(-1, x.shape[2]), values.view(-1), plan)  # type: ignore[no-untyped-call]
            product = flat.view(count, -1, x.shape[2])
            return product if bias is None else product + bias

        return forward

    def _stack(self, name: str, *, flat: Tensor | None = None, mask: Tensor | None = None) -> _Parameter:
        def gather(tensors: list[Tensor]) -> Tensor:
            found = [tensor.detach() for tensor in tensors]
            return torch.stack(found if flat is None else [tensor.flatten()[flat] for tensor in found])

        states = [lane.state for lane in self._lanes]
        values = gather([dict(state.model.named_parameters())[name] for state in states]).requires_grad_()
        stacked = _Parameter(name, values, gather([state.momenta[name] for state in states]), flat, mask)
        self._parameters.append(stacked)
        return stacked

    def step(self, step: int) -> None:
        """One step of every lane."""
        chosen, batches = [], []
        for lane in self._lanes:
            seed_noise(lane.x.device, lane.settings.noise_seed + step)
            chosen.append(lane.order.rows(step))
            batches.append(cast(ByBatch, lane.rule).show(lane.x, chosen[-1]))
        logits = self._forward([batch.x.flatten(1) for batch in batches])
        losses = [
            cast(ByBatch, lane.rule).weigh(
                logits[k, : len(rows)], batch, lane.y, rows, step // lane.order.steps_per_epoch
            )
            for k, (lane, rows, batch) in enumerate(zip(self._lanes, chosen, batches, strict=True))
        ]  # fmt: skip
        leaves = [parameter.values for parameter in self._parameters]
        total = torch.stack(losses).sum()
        check_loss(total.detach(), step, self._lanes[0].settings)
        gradients = list(torch.autograd.grad(total, leaves))
        masks = {i: p.mask for i, p in enumerate(self._parameters) if p.mask is not None}
        momenta = [parameter.momentum for parameter in self._parameters]
        move_parameters([leaf.data for leaf in leaves], gradients, momenta, self._lanes[0].settings, step, masks)

    def _forward(self, inputs: list[Tensor]) -> Tensor:
        """[b, I] of each lane -> logits [K, B, C], B the largest b; rows past a lane's own are of zeros."""
        size = max(len(x) for x in inputs)
        x = torch.stack([nn.functional.pad(x, (0, 0, 0, size - len(x))) for x in inputs]).transpose(1, 2).contiguous()
        for layer in self._layers:
            x = layer(x)
        return x.transpose(1, 2)

    def hand_back(self, end: int) -> None:
        """Write weights and momenta into the lanes' states, which are then at step `end`. Linear layers of a chain answer
        alike on their non-zeros, so that tests may run so."""
        with torch.no_grad():
            for k, lane in enumerate(self._lanes):
                named = dict(lane.state.model.named_parameters())
                for parameter in self._parameters:
                    parameter.write(k, parameter.values, named[parameter.name])
                    parameter.write(k, parameter.momentum, lane.state.momenta[parameter.name])
                lane.state.step = end
                lane.state.alike[tuple(find_sparse_layers(lane.state.model, lane.state.masks))] = True
                apply_masks(lane.state)


def _repeat(plan: Plan, count: int) -> Plan:
    """The plan of `count` copies of a mask [O, I] on the diagonal of [count O, count I]."""
    (outputs, inputs), size = plan.shape, len(plan.columns)

    def repeat(values: Tensor, step: int) -> Tensor:
        return (values + torch.arange(count, dtype=values.dtype).unsqueeze(1) * step).flatten()

    def repeat_starts(starts: Tensor) -> Tensor:
        return torch.cat([starts[:1], repeat(starts[1:], size)])

    return Plan(
        plan.mask, plan.flat, repeat_starts(plan.starts), repeat(plan.columns, inputs), repeat(plan.turn, size),
        repeat_starts(plan.starts_t), repeat(plan.columns_t, outputs), (count * outputs, count * inputs),
    )  # fmt: skip


class _Multiply(torch.autograd.Function):
    """x [I, B], values [n] -> W x [O, B]; the gradient of `values` is sampled where W has weights."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, values: Tensor, plan: Plan) -> Tensor:
        ctx.save_for_backward(x, values)
        ctx.plan = plan
        return plan.csr(values) @ x

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor, None]:
        x, values = ctx.saved_tensors
        plan: Plan = ctx.plan
        g = gradients[0].contiguous()
        sampled = torch.sparse.sampled_addmm(plan.csr(values), g, x.t(), beta=0.0)
        g_x = plan.csr_t(values) @ g if ctx.needs_input_grad[0] else None
        return g_x, sampled.values(), None
