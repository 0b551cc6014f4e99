"""The peer of the training benchmarks: masked sparse training as it is commonly written in PyTorch, RigL's updates
included. torch.optim.SGD with Nesterov momentum (its fastest, foreach); masks multiplied in after each step."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from sctool.sparsity.order import DataOrder
from sctool.sparsity.topology import Masks


def train_masked(
    model: nn.Module, masks: Masks, x: Tensor, y: Tensor, order: DataOrder, steps: int, *,
    update_at: tuple[int, ...] = (), fraction: float = 0.3,
) -> None:  # fmt: skip
    """`steps` steps on x [N, ...], y [N]; at the steps of `update_at` RigL drops and grows `fraction` of each layer."""
    masks = dict(masks)
    named = dict(model.named_parameters())
    optimiser = torch.optim.SGD(model.parameters(), 0.05, 0.9, weight_decay=5e-4, nesterov=True, foreach=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    _apply(named, masks)
    model.train()
    for step in range(steps):
        rows = order.rows(step)
        optimiser.zero_grad()
        functional.cross_entropy(model(x[rows]), y[rows]).backward()  # type: ignore[no-untyped-call]
        if step in update_at:
            for name in masks:
                masks[name] = _update(named[name], masks[name], fraction)
        else:
            optimiser.step()
        schedule.step()
        _apply(named, masks)


def _apply(named: dict[str, nn.Parameter], masks: Masks) -> None:
    with torch.no_grad():
        for name, mask in masks.items():
            named[name].mul_(mask)


def _update(weight: nn.Parameter, mask: Tensor, fraction: float) -> Tensor:
    assert weight.grad is not None
    flat = mask.flatten().clone()
    count = min(int(fraction * int(flat.sum())), int((~flat).sum()))
    size = weight.detach().abs().flatten().masked_fill(~flat, torch.inf)
    grow = weight.grad.abs().flatten().masked_fill(flat, -torch.inf)
    flat[size.topk(count, largest=False).indices] = False
    flat[grow.topk(count).indices] = True
    return flat.view(mask.shape)
