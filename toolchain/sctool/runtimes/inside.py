"""What whoever holds a model can compute of a record besides its output: the features of a white-box attack.

After Nasr et al. (S&P 2019): for each layer the size of the loss's gradient and what its activations look like, for the
last layer the gradient itself, thrown on a few random directions, and the loss. For eager PyTorch models.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional

CHUNK = 64
DIRECTIONS = 32
FLOOR = 1e-12


def extract_features(model: nn.Module, x: NDArray[np.float32], y: NDArray[np.int64]) -> NDArray[np.float32]:
    """x [N, ...], y [N] -> float32 [N, G]; G follows from the model alone. The model is left as it was, in eval mode."""
    model.eval()
    device = next(model.parameters()).device
    parts = []
    for start in range(0, len(x), CHUNK):
        batch = torch.from_numpy(x[start : start + CHUNK]).to(device)
        labels = torch.from_numpy(y[start : start + CHUNK]).to(device)
        parts.append(torch.cat([_gradients(model, batch, labels), _activations(model, batch, labels)], dim=1).cpu())
    return np.asarray(torch.cat(parts).numpy(), dtype=np.float32)


def _gradients(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """[B, P + DIRECTIONS]: log10 of each parameter's gradient norm; the last matrix's gradient in random directions."""
    parameters = {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}
    buffers = {name: b.detach() for name, b in model.named_buffers()}

    def loss(values: dict[str, Tensor], record: Tensor, label: Tensor) -> Tensor:
        logits = functional_call(model, (values, buffers), (record.unsqueeze(0),))
        return functional.cross_entropy(logits.float(), label.unsqueeze(0))

    found: dict[str, Tensor] = vmap(grad(loss), in_dims=(None, 0, 0))(parameters, x, y)
    norms = torch.stack([value.flatten(1).norm(dim=1) for value in found.values()], dim=1)
    last = [value for value in found.values() if value.ndim > 2][-1].flatten(1)
    generator = torch.Generator().manual_seed(0)
    directions = torch.randn(last.shape[1], DIRECTIONS, generator=generator).to(last) / last.shape[1] ** 0.5
    return torch.cat([(norms + FLOOR).log10(), last @ directions], dim=1)


def _activations(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """[B, 3 L + 1]: of each layer with weights the mean, the deviation and the share of positive outputs; the loss."""
    seen: list[Tensor] = []

    def look(module: nn.Module, inputs: Any, output: Tensor) -> None:
        flat = output.detach().float().flatten(1)
        seen.append(torch.stack([flat.mean(1), flat.std(1, correction=0), (flat > 0).float().mean(1)], dim=1))

    layers = [m for m in model.modules() if next(m.parameters(recurse=False), None) is not None]
    handles = [layer.register_forward_hook(look) for layer in layers]
    try:
        with torch.no_grad():
            logits = model(x).float()
    finally:
        for handle in handles:
            handle.remove()
    loss = functional.cross_entropy(logits, y, reduction="none").unsqueeze(1)
    return torch.cat([*seen, loss], dim=1)
