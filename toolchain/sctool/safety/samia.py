"""SAMIA: self-attention over prediction, sensitivity and label, made for pruned models (Yuan & Zhang, USENIX Security
2022, section 4.2).

Each class is a token: its probability, the probability's logarithm, how far it moves over altered copies of the record
(where such queries were made), and whether it is the label. Tokens see one another by self-attention; their mean decides.
The paper feeds whole vectors as tokens; one token a class lets the number of classes grow without the network growing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sctool.domain.membership import Signals
from sctool.safety.attack import Need
from sctool.safety.networks import draw_weights, train_attacker
from sctool.safety.threshold import best_threshold

WIDTH, HEADS, LAYERS = 32, 4, 2


class _Network(nn.Module):
    """tokens [N, C, 4] -> logit [N]."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.embed = nn.Linear(4, WIDTH)
        self.name = nn.Parameter(torch.zeros(1, classes, WIDTH))
        layer = nn.TransformerEncoderLayer(WIDTH, HEADS, 2 * WIDTH, dropout=0.0, batch_first=True, norm_first=True)
        self.attend = nn.TransformerEncoder(layer, LAYERS, enable_nested_tensor=False)
        self.decide = nn.Sequential(nn.Linear(2 * WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 1))

    def forward(self, tokens: Tensor) -> Tensor:
        seen = self.attend(self.embed(tokens) + self.name)
        own = (seen * tokens[:, :, 3:]).sum(dim=1)
        logit: Tensor = self.decide(torch.cat([seen.mean(dim=1), own], dim=1))
        return logit.squeeze(1)


@dataclass(frozen=True)
class FittedSamia:
    network: _Network
    threshold: float

    def score(self, signals: Signals) -> NDArray[np.float64]:
        with torch.no_grad():
            parts = [self.network(part) for part in torch.split(_tokens(signals), 1024)]
        return np.asarray(torch.cat(parts).double().numpy())


@dataclass(frozen=True)
class SamiaAttack:
    name: str = "samia"
    epochs: int = 40
    threat_model: str = (
        "Sees the model's outputs, also for altered copies, and the labels; trains a network on other records of known "
        "membership."
    )
    needs: frozenset[Need] = frozenset()
    seeded: bool = True

    def fit(self, signals: Signals, seed: int) -> FittedSamia:
        generator = torch.Generator().manual_seed(seed)
        with torch.random.fork_rng(devices=[]):
            network = _Network(signals.logits.shape[2])
        draw_weights(network, generator)
        target = torch.from_numpy(signals.is_member).float()
        train_attacker(network, [_tokens(signals)], target, epochs=self.epochs, generator=generator, weight_decay=1e-4)
        fitted = FittedSamia(network, 0.0)
        return FittedSamia(network, best_threshold(fitted.score(signals), signals.is_member))


def _tokens(signals: Signals) -> Tensor:
    """float32 [N, C, 4]."""
    log_p = torch.from_numpy(signals.logits).log_softmax(dim=2)
    p = log_p.exp()
    sensitivity = (p[:, 1:] - p[:, :1]).abs().mean(dim=1) if p.shape[1] > 1 else torch.zeros_like(p[:, 0])
    label = torch.zeros_like(p[:, 0])
    label[torch.arange(len(label)), torch.from_numpy(signals.labels)] = 1.0
    return torch.stack([p[:, 0], log_p[:, 0].clamp(min=-30) / 10, sensitivity, label], dim=2)
