"""The white-box attacker of Nasr et al. (S&P 2019), on features from inside the model: the TSE paper's second test.

The features (gradients, activations and losses, layer by layer) are the caller's; a network reads them together with
the prediction and the label.
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


class _Network(nn.Module):
    """features [N, G], prediction and label [N, 2 C] -> logit [N]."""

    def __init__(self, features: int, classes: int) -> None:
        super().__init__()
        self.inside = nn.Sequential(nn.Linear(features, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU())
        self.outside = nn.Sequential(nn.Linear(2 * classes, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU())
        self.joint = nn.Sequential(nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 1))

    def forward(self, features: Tensor, output: Tensor) -> Tensor:
        logit: Tensor = self.joint(torch.cat([self.inside(features), self.outside(output)], dim=1))
        return logit.squeeze(1)


@dataclass(frozen=True)
class FittedWhiteBox:
    """`centre`, `scale` [G]: of the features of the records fitted on."""

    network: _Network
    centre: NDArray[np.float32]
    scale: NDArray[np.float32]
    threshold: float

    def score(self, signals: Signals) -> NDArray[np.float64]:
        with torch.no_grad():
            return np.asarray(self.network(*_inputs(signals, self.centre, self.scale)).double().numpy())


@dataclass(frozen=True)
class WhiteBoxAttack:
    name: str = "white_box"
    epochs: int = 60
    threat_model: str = (
        "Holds the model itself: gradients, activations and losses for each record; trains a network on other records of "
        "known membership."
    )
    needs: frozenset[Need] = frozenset({"features"})
    seeded: bool = True

    def fit(self, signals: Signals, seed: int) -> FittedWhiteBox:
        if signals.features is None:
            raise ValueError("the white-box attack needs features from inside the model")
        generator = torch.Generator().manual_seed(seed)
        with torch.random.fork_rng(devices=[]):
            network = _Network(signals.features.shape[1], signals.logits.shape[2])
        draw_weights(network, generator)
        centre = signals.features.mean(axis=0)
        scale = np.maximum(signals.features.std(axis=0), 1e-6)
        target = torch.from_numpy(signals.is_member).float()
        inputs = _inputs(signals, centre, scale)
        train_attacker(network, inputs, target, epochs=self.epochs, generator=generator, weight_decay=1e-3)
        fitted = FittedWhiteBox(network, centre, scale, 0.0)
        return FittedWhiteBox(network, centre, scale, best_threshold(fitted.score(signals), signals.is_member))


def _inputs(signals: Signals, centre: NDArray[np.float32], scale: NDArray[np.float32]) -> list[Tensor]:
    assert signals.features is not None
    features = torch.from_numpy(np.clip((signals.features - centre) / scale, -10, 10).astype(np.float32))
    probabilities = torch.from_numpy(signals.logits[:, 0]).softmax(dim=1)
    label = nn.functional.one_hot(torch.from_numpy(signals.labels), signals.logits.shape[2]).float()
    return [features, torch.cat([probabilities, label], dim=1)]
