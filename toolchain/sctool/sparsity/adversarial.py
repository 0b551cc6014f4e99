"""Adversarial regularisation (Nasr, Shokri, Houmansadr, CCS 2018): train against the attack that one trains along.

The paper's game (equations 7 and 10): min over f of [mean loss(f) + strength * max over h of G], with the gain
G = mean of log h on members + mean of log (1 - h) on non-members, h in (0, 1) the attack's belief in membership. So h
ascends G (both means), and f, by algorithm 1, DESCENDS loss + strength * mean of log h over its own batch: a plus,
which pushes h down on members, until they look like non-members. (A minus would train a model that leaks.)
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from sctool.errors import ConfigError
from sctool.sparsity.losses import Loss, make_cross_entropy

if TYPE_CHECKING:
    from sctool.sparsity.trainer import TrainingState

WEIGHT, MEAN, SQUARE, STEPS = "adversary.weight.", "adversary.mean.", "adversary.square.", "adversary.steps"
BETAS, TINY = (0.9, 0.999), 1e-8


@dataclass(frozen=True)
class AdversarialRegularisation:
    """Each step: `attack_steps` steps of Adam on the attack h, then the model's gradient against it.

    x_ref [R, ...], y_ref [R]: non-members to train h with, drawn anew for each of its steps, as many as the batch has
    members. They are spent: measure no leak on them. h sees what an attacker sees, predictions in eval mode; its
    weights and Adam's averages live in `state.extras` under "adversary.". `hidden`: width of its two hidden layers.
    """

    x_ref: Tensor
    y_ref: Tensor
    strength: float = 1.0
    attack_steps: int = 1
    attack_rate: float = 1e-3
    hidden: int = 64
    loss: Loss = field(default_factory=lambda: make_cross_entropy(0.0, 0.0))

    def __post_init__(self) -> None:
        if len(self.x_ref) == 0 or len(self.x_ref) != len(self.y_ref):
            raise ConfigError(
                f"Adversarial regularisation got {len(self.x_ref)} reference records and {len(self.y_ref)} labels.",
                hint="Give it non-members that nothing else uses.",
            )
        if not (self.strength >= 0 and self.attack_steps >= 1):
            raise ConfigError(f"No adversary of strength {self.strength} with {self.attack_steps} steps per batch.")

    def __call__(self, state: TrainingState, x: Tensor, y: Tensor, rows: Tensor, epoch: int) -> Tensor:
        self._train_attack(state, x[rows], y[rows])
        logits = state.forward(x[rows])
        gain = functional.logsigmoid(membership_logits(state.extras, logits, y[rows])).mean()
        value = self.loss(logits, y[rows], epoch) + self.strength * gain
        return state.backward(value)

    def _train_attack(self, state: TrainingState, x: Tensor, y: Tensor) -> None:
        """Descend -G on members x [B, ...], y [B] and as many reference records."""
        state.model.eval()
        members = _predict(state.model, x)
        if STEPS not in state.extras:
            fresh = _start_attack(members.shape[1], self.hidden, members.dtype)
            state.extras.update({key: value.to(members.device) for key, value in fresh.items()})
        for _ in range(self.attack_steps):
            drawn = torch.randint(len(self.x_ref), (len(x),))
            logits = torch.cat([members, _predict(state.model, self.x_ref[drawn])])
            labels = torch.cat([y, self.y_ref[drawn]])
            truth = torch.cat([torch.ones_like(members[:, 0]), torch.zeros_like(members[:, 0])])
            weights = {
                key: value.detach().requires_grad_() for key, value in state.extras.items() if key.startswith(WEIGHT)
            }
            belief = membership_logits(weights, logits, labels)
            gradients = torch.autograd.grad(
                functional.binary_cross_entropy_with_logits(belief, truth), list(weights.values())
            )
            _step_adam(state.extras, dict(zip(weights, gradients, strict=True)), self.attack_rate)
        state.model.train()


def membership_logits(extras: dict[str, Tensor], logits: Tensor, y: Tensor) -> Tensor:
    """The attack in `extras` on the model's logits [B, C] and labels [B] -> [B], above 0: "member"."""
    weights = {key.removeprefix(WEIGHT): value for key, value in extras.items() if key.startswith(WEIGHT)}
    classes, hidden = logits.shape[1], len(weights["0.bias"])
    known = torch.cat([logits.softmax(1), functional.one_hot(y, classes).to(logits.dtype)], dim=1)
    belief: Tensor = functional_call(_attack_network(classes, hidden, "meta"), weights, (known,))
    return belief.squeeze(1)


def _attack_network(classes: int, hidden: int, device: str) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(2 * classes, hidden, device=device), nn.ReLU(),
        nn.Linear(hidden, hidden, device=device), nn.ReLU(),
        nn.Linear(hidden, 1, device=device),
    )  # fmt: skip


def _start_attack(classes: int, hidden: int, dtype: torch.dtype) -> dict[str, Tensor]:
    """Fresh weights from the step's random numbers, and Adam's averages at zero."""
    network = _attack_network(classes, hidden, "cpu").to(dtype)
    extras = {STEPS: torch.zeros((), dtype=torch.int64)}
    for name, value in network.state_dict().items():
        extras |= {WEIGHT + name: value.clone(), MEAN + name: value * 0, SQUARE + name: value * 0}
    return extras


def _predict(model: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        logits: Tensor = model(x)
    return logits


def _step_adam(extras: dict[str, Tensor], gradients: dict[str, Tensor], rate: float) -> None:
    """One step of Adam (Kingma & Ba 2015, algorithm 1); puts new tensors into `extras`."""
    extras[STEPS] = extras[STEPS] + 1
    count = int(extras[STEPS])
    with torch.no_grad():
        for key, gradient in gradients.items():
            name = key.removeprefix(WEIGHT)
            mean = extras[MEAN + name].lerp(gradient, 1 - BETAS[0])
            square = extras[SQUARE + name].lerp(gradient * gradient, 1 - BETAS[1])
            scale = (square / (1 - BETAS[1] ** count)).sqrt() + TINY
            extras[MEAN + name], extras[SQUARE + name] = mean, square
            extras[key] = (extras[key] - rate / (1 - BETAS[0] ** count) * mean / scale).detach()
