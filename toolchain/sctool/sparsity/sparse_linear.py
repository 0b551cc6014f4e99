"""Linear layers that train on their non-zeros alone: CSR products forward, gradients of existing weights backward.

At density 0.05 the products and the optimiser touch a twentieth of the weights. The dense weight is the truth between
calls of the trainer; within one, a vector of the non-zeros stands in for it.
"""

from __future__ import annotations

import functools
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

MAX_DENSITY = 0.125
"""Above it the dense product is the faster one (benchmarks/sparse_training.py)."""
MIN_WEIGHTS = 2**14
"""Smaller layers cost their calls, whichever way."""


@dataclass(frozen=True)
class Plan:
    """The positions of one mask [O, I]: row-major (`rows`, `columns` [n]) and, by `turn` [n], of the transpose."""

    mask: Tensor
    flat: Tensor
    starts: Tensor
    columns: Tensor
    turn: Tensor
    starts_t: Tensor
    columns_t: Tensor
    shape: tuple[int, int]

    def csr(self, values: Tensor) -> Tensor:
        """[O, I] with `values` [n]."""
        return _csr(self.starts, self.columns, values, self.shape)

    def csr_t(self, values: Tensor) -> Tensor:
        """[I, O], the transpose."""
        return _csr(self.starts_t, self.columns_t, values[self.turn], self.shape[::-1])


def make_plan(mask: Tensor) -> Plan:
    """mask: bool [O, I]."""
    rows, columns = mask.nonzero(as_tuple=True)
    turn = (columns * mask.shape[0] + rows).argsort()
    return Plan(
        mask, rows * mask.shape[1] + columns, _starts(rows, mask.shape[0]), columns.int(), turn,
        _starts(columns, mask.shape[1]), rows[turn].int(), (mask.shape[0], mask.shape[1]),
    )  # fmt: skip


def _starts(sorted_by: Tensor, count: int) -> Tensor:
    return functional.pad(torch.bincount(sorted_by, minlength=count).cumsum(0), (1, 0)).int()


def _csr(starts: Tensor, columns: Tensor, values: Tensor, shape: tuple[int, ...]) -> Tensor:
    _warn_in_silence()
    return torch.sparse_csr_tensor(starts, columns, values, shape, check_invariants=False)


@functools.cache
def _warn_in_silence() -> None:
    """PyTorch says once a process that such tensors are in beta: here, where nobody hears it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.sparse_csr_tensor(
            torch.zeros(1, dtype=torch.int32), torch.zeros(0, dtype=torch.int32), torch.zeros(0), (0, 0)
        )


class _Multiply(torch.autograd.Function):
    """x [B, I], values [n] -> x W^T [B, O]; the gradient of `values` is sampled where W has weights."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, values: Tensor, plan: Plan) -> Tensor:
        ctx.save_for_backward(x, values)
        ctx.plan = plan
        return (plan.csr(values) @ x.t()).t()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor, None]:
        x, values = ctx.saved_tensors
        plan: Plan = ctx.plan
        g_t = gradients[0].t()
        sampled = torch.sparse.sampled_addmm(plan.csr(values), g_t.contiguous(), x.contiguous(), beta=0.0)
        g_x = (plan.csr_t(values) @ g_t).t() if ctx.needs_input_grad[0] else None
        return g_x, sampled.values(), None


def can_run_sparsely(layer: nn.Module, mask: Tensor) -> bool:
    """A plain Linear on the CPU, large and sparse enough that it pays."""
    if type(layer) is not nn.Linear or "forward" in vars(layer):
        return False
    fits = layer.weight.device.type == "cpu" and layer.weight.dtype == torch.float32
    return fits and mask.numel() >= MIN_WEIGHTS and int(mask.sum()) <= MAX_DENSITY * mask.numel()


@dataclass
class SparseWeight:
    """What stands in for the weight `name` [O, I] and its momentum: vectors over the positions of `plan`."""

    name: str
    plan: Plan
    values: nn.Parameter
    momentum: Tensor


def find_sparse_layers(model: nn.Module, masks: Mapping[str, Tensor]) -> dict[str, nn.Linear]:
    """By the name of their weight: the layers that can run sparsely and share their weight with no other."""
    named = model.named_modules(remove_duplicate=False)
    layers = {f"{prefix}.weight" if prefix else "weight": layer for prefix, layer in named}
    users = Counter(id(layer.weight) for layer in layers.values() if isinstance(layer, nn.Linear))
    return {
        name: layer
        for name, mask in masks.items()
        if isinstance(layer := layers.get(name), nn.Linear)
        and users[id(layer.weight)] == 1
        and can_run_sparsely(layer, mask)
    }


@contextmanager
def run_sparsely(
    layers: Mapping[str, nn.Linear], masks: Mapping[str, Tensor], momenta: Mapping[str, Tensor], plans: dict[str, Plan]
) -> Iterator[dict[str, SparseWeight]]:
    """Within: these layers run on their non-zeros, which the optimiser is to move. After: all is dense again.

    `plans` remembers the positions for as long as a mask stays the same object.
    """
    chosen: dict[str, SparseWeight] = {}
    dense: dict[str, nn.Parameter] = {}
    for name, layer in layers.items():
        mask = masks[name]
        if name not in plans or plans[name].mask is not mask:
            plans[name] = make_plan(mask)
        plan, weight = plans[name], cast(nn.Parameter, layer.weight)
        dense[name] = weight
        values = nn.Parameter(weight.detach().flatten()[plan.flat], requires_grad=weight.requires_grad)
        chosen[name] = SparseWeight(name, plan, values, momenta[name].flatten()[plan.flat])
        layer.weight = values
        layer.forward = _make_forward(layer, plan)  # type: ignore[method-assign]
    try:
        yield chosen
    finally:
        for name, part in chosen.items():
            layer = layers[name]
            del layer.forward
            layer.weight = dense[name]
            with torch.no_grad():
                layer.weight.view(-1)[part.plan.flat] = part.values.detach()
                momenta[name].view(-1)[part.plan.flat] = part.momentum


def runs_alike(
    model: nn.Module, layers: Mapping[str, nn.Linear], masks: Mapping[str, Tensor], momenta: Mapping[str, Tensor],
    x: Tensor,
) -> bool:  # fmt: skip
    """Whether the model answers x [n, ...] alike both ways: one that reads a layer's weight past its forward does not."""
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            expected = model(x)
            with run_sparsely(layers, masks, momenta, {}):
                return torch.allclose(model(x), expected, rtol=1e-3, atol=1e-4)
    except (RuntimeError, IndexError, ValueError):
        return False
    finally:
        model.train(was_training)


def _make_forward(layer: nn.Linear, plan: Plan) -> Any:
    def forward(x: Tensor) -> Tensor:
        flat: Tensor = _Multiply.apply(x.reshape(-1, x.shape[-1]), layer.weight, plan)  # type: ignore[no-untyped-call]
        flat = flat if layer.bias is None else flat + layer.bias
        return flat.view(*x.shape[:-1], -1) if x.ndim != 2 else flat

    return forward
