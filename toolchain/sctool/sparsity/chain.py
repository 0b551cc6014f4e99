"""Models that are chains of linear layers: what may be computed of them without their forward."""

from __future__ import annotations

from torch import nn

_ROW_BY_ROW = (nn.Linear, nn.ReLU, nn.Tanh, nn.Sigmoid, nn.GELU, nn.Flatten, nn.Dropout, nn.Identity)


def find_chain(model: nn.Module) -> nn.Sequential | None:
    """The chain that `model` is, or, as its only part, seems to wrap; None where a layer of it is not row by row."""
    parts = list(model.children())
    inner = model if type(model) is nn.Sequential else parts[0] if len(parts) == 1 else None
    if type(inner) is not nn.Sequential or len({id(layer) for layer in inner}) != len(inner):
        return None
    if any(type(layer) not in _ROW_BY_ROW or getattr(layer, "inplace", False) for layer in inner):
        return None
    if any(isinstance(layer, nn.Flatten) and layer.start_dim != 1 for layer in inner):
        return None
    inside = {id(p) for p in inner.parameters()}
    return inner if all(id(p) in inside for p in model.parameters()) else None
