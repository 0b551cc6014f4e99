"""Clipped sums of per-record gradients for chains of linear layers, without making the gradients of any record.

A record's gradient of a linear layer is the outer product of the layer's output gradient g [O] and input a [I]. Its
masked squared norm is sum over o of g_o^2 * sum over i of mask_oi * a_i^2: one matrix product for a whole batch. The
clipped sum is (factor * g)^T a. Goodfellow, "Efficient per-example gradient computations" (2015), with a mask.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import vmap

from sctool.sparsity.chain import find_chain
from sctool.sparsity.losses import Loss


def sum_clipped(
    model: nn.Module, masks: Mapping[str, Tensor], x: Tensor, y: Tensor, loss: Loss, epoch: int, clip: float
) -> tuple[dict[str, Tensor], Tensor] | None:
    """({parameter: sum over the records of x [B, ...] of their masked gradients, each cut to L2 norm `clip`}, losses [B]).

    None where the model is no chain of linear layers after all; nothing has changed then but the random stream.
    """
    chain = find_chain(model)
    if chain is None:
        return None
    seen = _Recorder(chain)
    try:
        logits = model(x)
    finally:
        seen.remove()
    if seen.source is not x or seen.result is not logits or any(a.ndim != 2 for a in seen.inputs):
        return None
    one = vmap(lambda z, label: loss(z.unsqueeze(0), label.unsqueeze(0), epoch))
    losses = one(logits, y)
    gradients = torch.autograd.grad(losses.sum(), seen.outputs)
    names = {id(parameter): name for name, parameter in model.named_parameters() if parameter.requires_grad}
    with torch.no_grad():
        squares = torch.zeros(len(x), dtype=logits.dtype, device=logits.device)
        for layer, a, g in zip(seen.layers, seen.inputs, gradients, strict=True):
            for parameter, square in _norms(layer, a, g, masks, names):
                if id(parameter) in names:
                    squares += square
        factors = (clip / squares.sqrt().clamp(min=clip)).unsqueeze(1)
        totals = {}
        for layer, a, g in zip(seen.layers, seen.inputs, gradients, strict=True):
            cut = g * factors
            if id(layer.weight) in names:
                totals[names[id(layer.weight)]] = cut.T @ a
            if layer.bias is not None and id(layer.bias) in names:
                totals[names[id(layer.bias)]] = cut.sum(0)
    return totals, losses.detach()


def _norms(
    layer: nn.Linear, a: Tensor, g: Tensor, masks: Mapping[str, Tensor], names: Mapping[int, str]
) -> Iterable[tuple[Tensor, Tensor]]:
    """(parameter, squared norms [B] of the records' gradients of it) for a layer's inputs a [B, I], gradients g [B, O]."""
    mask = masks.get(names.get(id(layer.weight), ""))
    inner = a.square().sum(1, keepdim=True) if mask is None else a.square() @ mask.to(a.dtype).T
    yield layer.weight, (g.square() * inner).sum(1)
    if layer.bias is not None:
        yield layer.bias, g.square().sum(1)


class _Recorder:
    """What goes into and comes out of the chain and each linear layer of it, in one forward pass."""

    def __init__(self, chain: nn.Sequential) -> None:
        self.layers = [layer for layer in chain if isinstance(layer, nn.Linear)]
        self.inputs: list[Tensor] = []
        self.outputs: list[Tensor] = []
        self.source: Any = None
        self.result: Any = None
        self._handles = [layer.register_forward_hook(self._layer) for layer in self.layers]
        self._handles.append(chain.register_forward_hook(self._chain))

    def _layer(self, layer: nn.Module, arguments: tuple[Tensor, ...], output: Tensor) -> None:
        self.inputs.append(arguments[0].detach())
        self.outputs.append(output)

    def _chain(self, layer: nn.Module, arguments: tuple[Tensor, ...], output: Tensor) -> None:
        self.source, self.result = arguments[0], output

    def remove(self) -> None:
        for handle in self._handles:
            handle.remove()
