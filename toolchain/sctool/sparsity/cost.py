"""What a non-zero costs at run time, layer by layer."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sctool.native.costs import LayerKind, LayerWork, load_costs
from sctool.sparsity.device import device_of
from sctool.sparsity.maskable import MASKABLE_LAYERS


def count_positions(model: nn.Module, input_shape: Sequence[int]) -> dict[str, int]:
    """Weight name -> multiply-accumulates that each of its non-zeros takes for one record.

    That is the number of output positions of a convolution (height x width), and 1 for a Linear on vectors; layers that
    the forward pass does not reach count 1.
    """
    counts: dict[str, int] = {}
    hooks = []

    def watch(name: str, layer: nn.Module) -> None:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            channels = output.shape[-1] if isinstance(module, nn.Linear) else output.shape[1]
            counts[name] = counts.get(name, 0) + output[0].numel() // channels

        hooks.append(layer.register_forward_hook(hook))

    for prefix, layer in model.named_modules():
        if isinstance(layer, MASKABLE_LAYERS):
            watch(f"{prefix}.weight" if prefix else "weight", layer)
    was_training = model.training
    try:
        with torch.no_grad():
            model.eval()(torch.zeros(1, *input_shape, device=device_of(model)))
    finally:
        model.train(was_training)
        for handle in hooks:
            handle.remove()
    return counts


def measured_costs(model: nn.Module, input_shape: Sequence[int], isa: str) -> dict[str, float]:
    """Weight name -> nanoseconds that one more of its non-zeros takes in the sparse runtime, by the table of `isa`.

    As count_positions, but a non-zero of a layer with few output pixels costs more than its share of them: its weight is
    read for little work. KeyError where there is no table of `isa`.
    """
    table = load_costs(isa)
    layers = {f"{prefix}.weight" if prefix else "weight": layer for prefix, layer in model.named_modules()}
    costs = {}
    for name, pixels in count_positions(model, input_shape).items():
        layer = layers[name]
        shape = tuple(layer.weight.shape)
        kind: LayerKind = "linear" if len(shape) == 2 else "pointwise" if set(shape[2:]) == {1} else "spatial"
        costs[name] = table.nonzero_ns(LayerWork(kind, 1, 1, pixels, int(shape[-1]), 0, 0))
    return costs
