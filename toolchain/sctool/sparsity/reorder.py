"""Layers in a cheaper order of the same meaning, while a model trains."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


@contextmanager
def pool_before_relu(model: nn.Module, x: Tensor) -> Iterator[None]:
    """Within: max-pooling that follows a ReLU in a Sequential comes before it, so that ReLU sees a quarter of the values.

    Both only ever pick or clip, so they commute bit for bit, gradients included: where the largest value of a window is
    positive both orders pass the gradient to it, and elsewhere none. x [n, ...] are records to try it with: a model that
    reads its layers in another way than in turn answers otherwise, and stays as it is.
    """
    pairs = _find_pairs(model)
    expected = _answer(model, x) if pairs else None
    _swap(pairs)
    try:
        alike = not pairs or _equal(expected, _answer(model, x))
        if not alike:
            _swap(pairs)
            pairs = []
        yield
    finally:
        _swap(pairs)


_Pair = tuple[nn.Sequential, str, str]


def _find_pairs(model: nn.Module) -> list[_Pair]:
    found = []
    for module in model.modules():
        if isinstance(module, nn.Sequential) and type(module).forward is nn.Sequential.forward:
            layers = list(module.named_children()) if len(module) == len(dict(module.named_children())) else []
            found += [
                (module, name, next_name)
                for (name, layer), (next_name, following) in zip(layers, layers[1:], strict=False)
                if type(layer) is nn.ReLU
                and isinstance(following, nn.MaxPool1d | nn.MaxPool2d | nn.MaxPool3d)
                and not following.return_indices
                and not (_has_hooks(layer) or _has_hooks(following))
            ]
    return found


def _has_hooks(layer: nn.Module) -> bool:
    return bool(layer._forward_hooks or layer._forward_pre_hooks or layer._backward_hooks or layer._backward_pre_hooks)


def _swap(pairs: list[_Pair]) -> None:
    for module, one, other in pairs:
        layers = module._modules
        layers[one], layers[other] = layers[other], layers[one]


def _answer(model: nn.Module, x: Tensor) -> Tensor | None:
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            return model(x)  # type: ignore[no-any-return]
    except (RuntimeError, IndexError, ValueError, TypeError):
        return None
    finally:
        model.train(was_training)


def _equal(one: Tensor | None, other: Tensor | None) -> bool:
    return one is not None and other is not None and torch.equal(one, other)
