"""BatchNorm folded into the layer before it: fewer nodes, and every zero stays a zero."""

from __future__ import annotations

import torch
from torch import nn
from torch.fx.experimental.optimization import fuse


def fold_batch_norm(model: nn.Module) -> tuple[nn.Module, str]:
    """(model in eval mode with BatchNorm folded into Conv and Linear, note for the user or "").

    Parameter names stay. A model that torch.fx cannot trace comes back as it was, with a note that says so.
    """
    model = model.eval()
    if not any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules()):
        return model, ""
    try:
        with torch.no_grad():
            folded = fuse(model)
            for parameter in folded.parameters():
                parameter.add_(0.0)  # a negative gamma makes -0.0 of a zero, which is stored as a value
    except Exception as error:  # torch.fx raises whatever the traced code raises.
        return model, f"BatchNorm was not folded: {type(error).__name__}: {str(error).splitlines()[0][:120]}"
    return folded.eval(), ""
