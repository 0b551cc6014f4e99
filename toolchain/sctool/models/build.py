"""From a model source of the configuration to an nn.Module that answers with logits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from sctool.errors import ConfigError, TrainingError
from sctool.models.alexnet import AlexNet
from sctool.models.lenet import LeNet
from sctool.models.mobilenet import MobileNetV2
from sctool.models.resnet import ResNet18
from sctool.models.sensor import Cnn1d
from sctool.models.tabular import Mlp
from sctool.models.vgg import Vgg16
from sctool.models.vision import SmallCnn
from sctool.plugins import load_callable
from sctool.resources import suggest

ZOO: dict[str, Callable[..., nn.Module]] = {
    "mlp": Mlp,
    "small_cnn": SmallCnn,
    "lenet": LeNet,
    "alexnet": AlexNet,
    "vgg16": Vgg16,
    "resnet18": ResNet18,
    "mobilenet_v2": MobileNetV2,
    "cnn1d": Cnn1d,
}


def build_model(
    source: str, options: dict[str, Any], *, input_shape: Sequence[int], classes: int, seed: int
) -> nn.Module:
    """Build the model with weights drawn from `seed`, and try it on two records of `input_shape`.

    A zoo model takes (input_shape, classes, **options); a user's 'module:callable' takes (**options) alone.
    Raises ConfigError for an unknown name or option, TrainingError where the model does not map [B, *input_shape]
    to [B, classes].
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = _construct(source, options, input_shape, classes)
    _try_out(model, source, input_shape, classes)
    return model


def _construct(source: str, options: dict[str, Any], input_shape: Sequence[int], classes: int) -> nn.Module:
    if ":" not in source and source not in ZOO:
        raise ConfigError(
            f"model.source = {source!r} is neither a zoo model nor 'module:callable'.", hint=suggest(source, list(ZOO))
        )
    try:
        if ":" in source:
            model = load_callable(source, what="model.source")(**options)
        else:
            model = ZOO[source](input_shape, classes, **options)
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"model {source!r} with options {options} on input [B, {', '.join(map(str, input_shape))}]: {error}.",
            hint="Check model.options and the data's shape.",
        ) from error
    if not isinstance(model, nn.Module):
        raise ConfigError(
            f"model.source = {source!r} returned {type(model).__name__}.", hint="Return a torch.nn.Module."
        )
    return model


def _try_out(model: nn.Module, source: str, input_shape: Sequence[int], classes: int) -> None:
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            logits = model(torch.zeros(2, *input_shape))
    except Exception as error:
        raise TrainingError(
            f"Model {source!r} cannot take input [2, {', '.join(map(str, input_shape))}]: {str(error).splitlines()[0]}.",
            hint="Match the model to the data's shape.",
        ) from error
    model.train(was_training)
    shape = list(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
    if shape != [2, classes]:
        raise TrainingError(
            f"Model {source!r} gave {shape} for 2 records; expected [2, {classes}].", hint="Return logits [B, C]."
        )
