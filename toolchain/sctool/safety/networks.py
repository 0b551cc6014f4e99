"""Training of the attackers that are networks: Adam for a fixed number of epochs, none picked on records scored later."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

BATCH = 256


def train_attacker(
    network: nn.Module, inputs: Sequence[Tensor], target: Tensor, *, epochs: int, generator: torch.Generator,
    rate: float = 1e-3, weight_decay: float = 0.0,
) -> None:  # fmt: skip
    """Train `network`, which makes inputs [N, ...] into one logit a record [N], in place; target: 1.0 = member."""
    optimiser = torch.optim.Adam(network.parameters(), lr=rate, weight_decay=weight_decay)
    network.train()
    with torch.enable_grad():
        for _ in range(epochs):
            for rows in torch.split(torch.randperm(len(target), generator=generator), BATCH):
                optimiser.zero_grad()
                logit = network(*(part[rows] for part in inputs))
                nn.functional.binary_cross_entropy_with_logits(logit, target[rows]).backward()  # type: ignore[no-untyped-call]
                optimiser.step()
    network.eval()


def draw_weights(network: nn.Module, generator: torch.Generator) -> None:
    """Uniform in 1 / sqrt(fan-in) for every matrix, zero for biases; what is one-dimensional and no bias stays."""
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if parameter.ndim > 1:
                reach = parameter[0].numel() ** -0.5
                parameter.uniform_(-reach, reach, generator=generator)
            elif name.endswith("bias"):
                parameter.zero_()
