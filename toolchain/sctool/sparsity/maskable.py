"""Which parameters of a model can be masked, and why the others stay dense."""

from __future__ import annotations

from torch import nn

MASKABLE_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
_STATELESS_REASON = "its type is not Linear or Conv; sparse storage of it is not supported"


def find_maskable(model: nn.Module, leave_dense: list[str]) -> tuple[list[str], list[dict[str, str]]]:
    """(names of the weights to mask, [{"layer", "reason"}] for weights of two or more dimensions left dense).

    Biases and normalisation parameters (one dimension) are never masked and not listed. A weight shared by two
    layers is masked once, under its first name.
    """
    maskable: list[str] = []
    left: list[dict[str, str]] = []
    owners = {
        f"{prefix}.{name}" if prefix else name: module
        for prefix, module in model.named_modules()
        for name, _ in module.named_parameters(recurse=False)
    }
    for name, parameter in model.named_parameters():
        if parameter.ndim < 2:
            continue
        owner = owners[name]
        if name in leave_dense:
            left.append({"layer": name, "reason": "listed in compress.leave_dense"})
        elif isinstance(owner, MASKABLE_LAYERS) and name.rsplit(".", 1)[-1] == "weight":
            maskable.append(name)
        else:
            left.append({"layer": name, "reason": f"{type(owner).__name__}: {_STATELESS_REASON}"})
    return maskable, left
