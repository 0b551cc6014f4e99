"""Where training runs and in which precision; nothing else knows of devices but by the tensors it is given."""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn

from sctool.errors import ConfigError

PRECISIONS: dict[str, torch.dtype | None] = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}
HALF_SCALE = 2.0**10
"""What a loss is multiplied by before float16 gradients are taken: constant, so that nothing is to be remembered."""


def choose_device(name: str | None) -> torch.device:
    """ "auto" (or None): CUDA where there is some, else the CPU; MPS only by name. ConfigError for what is not there."""
    if name in (None, "auto"):
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not there[str(name)]:
        raise ConfigError(
            f"compress.device = {name!r}, but this PyTorch ({torch.__version__}) finds none.",
            hint='Set it to "auto" or "cpu", or install a PyTorch build for that device.',
        )
    return torch.device(str(name))


def place_model(model: nn.Module, device: torch.device) -> nn.Module:
    """`model` on `device`; 2-D convolutions with channels last, up to twice as fast on the CPU too, but for MPS."""
    if device.type != "mps" and any(parameter.ndim == 4 for parameter in model.parameters()):
        return model.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]
    return model.to(device)


def place_records(x: Tensor, device: torch.device) -> Tensor:
    """x [N, ...] on `device`, the whole set at once; images with channels last on CUDA."""
    if device.type == "cuda" and x.ndim == 4:
        return x.to(device, memory_format=torch.channels_last)
    return x.to(device)


def device_of(model: nn.Module) -> torch.device:
    """Where the model's first parameter is; the CPU for a model without any."""
    first = next(model.parameters(), None)
    return torch.device("cpu") if first is None else first.device


def autocast(device: torch.device, precision: torch.dtype | None) -> AbstractContextManager[object]:
    """Forward passes in `precision` where PyTorch thinks that safe; None: as they are."""
    return torch.autocast(device.type, dtype=precision, enabled=precision is not None)


def seed_noise(device: torch.device, seed: int) -> None:
    """Seed what a model on `device` draws from; torch.manual_seed would visit every kind of device, at a cost."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)
    elif device.type == "mps":
        torch.mps.manual_seed(seed)
