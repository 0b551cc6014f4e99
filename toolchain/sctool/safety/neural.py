"""The neural attacker of Nasr et al. 2018 in the shape that SafeCompress uses (PAPER: black-box attacker)."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sctool.domain.membership import Signals
from sctool.safety.attack import FittedAttack, Need
from sctool.safety.networks import train_attacker
from sctool.safety.threshold import best_threshold


class _Network(nn.Module):
    """Softmax [N, C] -> 64 and label one-hot {-1, +1} [N, C] -> 64, joined to one logit of membership [N]."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.output = _stack(classes, 1024, 512, 64)
        self.label = _stack(classes, 512, 64)
        self.joint = nn.Sequential(*_stack(128, 256, 64), nn.Linear(64, 1))

    def forward(self, probabilities: Tensor, one_hot: Tensor) -> Tensor:
        joined = torch.cat([self.output(probabilities), self.label(one_hot)], dim=1)
        logit: Tensor = self.joint(joined)
        return logit.squeeze(1)


def _stack(*widths: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for before, after in zip(widths, widths[1:], strict=False):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*layers)


@dataclass(frozen=True)
class FittedNeural:
    network: _Network
    threshold: float

    def score(self, signals: Signals) -> NDArray[np.float64]:
        with torch.no_grad():
            return np.asarray(self.network(*_inputs(signals)).double().numpy())


@dataclass(frozen=True)
class NeuralAttack:
    """A fixed number of epochs: none is picked on records that are scored later. `more_epochs`: after a warm start."""

    name: str = "neural"
    epochs: int = 50
    more_epochs: int = 10
    threat_model: str = (
        "Sees the model's outputs and the labels; trains a network on other records of known membership."
    )
    needs: frozenset[Need] = frozenset()
    seeded: bool = True

    def fit(self, signals: Signals, seed: int) -> FittedNeural:
        generator = torch.Generator().manual_seed(seed)
        with torch.random.fork_rng(devices=[]):
            network = _Network(signals.logits.shape[2])
        for name, parameter in network.named_parameters():
            with torch.no_grad():
                if name.endswith("weight"):
                    parameter.normal_(0.0, 0.01, generator=generator)
                else:
                    parameter.zero_()
        return _train(network, signals, self.epochs, generator)

    def refit(self, fitted: FittedAttack, signals: Signals, seed: int) -> FittedNeural:
        if not isinstance(fitted, FittedNeural):
            raise TypeError(f"a neural attacker cannot start from {type(fitted).__name__}")
        network = copy.deepcopy(fitted.network)
        return _train(network, signals, self.more_epochs, torch.Generator().manual_seed(seed))


def _train(network: _Network, signals: Signals, epochs: int, generator: torch.Generator) -> FittedNeural:
    """Adam on `network`, in place; the threshold is the best on the same records."""
    target = torch.from_numpy(signals.is_member).float()
    train_attacker(network, _inputs(signals), target, epochs=epochs, generator=generator)
    fitted = FittedNeural(network, 0.0)
    return FittedNeural(network, best_threshold(fitted.score(signals), signals.is_member))


def _inputs(signals: Signals) -> tuple[Tensor, Tensor]:
    probabilities = torch.from_numpy(signals.logits[:, 0]).softmax(dim=1)
    one_hot = torch.full(probabilities.shape, -1.0)
    one_hot[torch.arange(len(one_hot)), torch.from_numpy(signals.labels)] = 1.0
    return probabilities, one_hot
