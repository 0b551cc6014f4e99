"""Training losses: each takes logits [B, C], labels [B] and the epoch, and gives the mean loss of the batch.

All are free of Python branches on values, so that torch.func can batch them over stacked models.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from sctool.errors import ConfigError
from sctool.resources import suggest
from sctool.sparsity.augment import AUGMENTATIONS, MIXING, Augmentation, chain_augmentations

Loss = Callable[[Tensor, Tensor, int], Tensor]
"""(logits [B, C], labels int64 [B], epoch) -> scalar: the mean over the batch."""


def make_cross_entropy(strength: float, smoothing: float) -> Loss:
    """Plain cross-entropy; `strength` is not used."""
    return lambda logits, y, epoch: functional.cross_entropy(logits, y, label_smoothing=smoothing)


def make_confidence_penalty(strength: float, smoothing: float) -> Loss:
    """Cross-entropy - strength * entropy of the prediction (Pereyra et al. 2017)."""
    return _minus_entropy(strength, smoothing, lambda logits, y: torch.ones_like(y, dtype=logits.dtype))


def make_entropy_correct(strength: float, smoothing: float) -> Loss:
    """The penalty on rightly classified records alone: those are the ones a member gives away."""
    return _minus_entropy(strength, smoothing, lambda logits, y: (logits.argmax(1) == y).to(logits.dtype))


def make_entropy_errors(strength: float, smoothing: float) -> Loss:
    """The penalty on wrongly classified records alone; a batch without errors has none (no division by their number)."""
    return _minus_entropy(strength, smoothing, lambda logits, y: (logits.argmax(1) != y).to(logits.dtype))


def make_uniform(strength: float, smoothing: float) -> Loss:
    """Cross-entropy + strength * KL(uniform || prediction)."""

    def loss(logits: Tensor, y: Tensor, epoch: int) -> Tensor:
        log_p = logits.log_softmax(1)
        divergence = -log_p.mean(1) - math.log(logits.shape[1])
        return functional.cross_entropy(logits, y, label_smoothing=smoothing) + strength * divergence.mean()

    return loss


def make_relax(strength: float, smoothing: float) -> Loss:
    """RelaxLoss (Chen, Yu, Fritz, ICLR 2022): keeps the mean loss of a batch near `strength` (their alpha).

    Above alpha: descend. Below: on even epochs ascend; on odd ones flatten the posterior of wrongly classified records
    around the probability of the label, and ascend on all.
    """

    def loss(logits: Tensor, y: Tensor, epoch: int) -> Tensor:
        each = functional.cross_entropy(logits, y, label_smoothing=smoothing, reduction="none")
        mean = each.mean()
        if epoch % 2 == 0:
            return (mean - strength).abs()
        label = functional.one_hot(y, logits.shape[1]).to(logits.dtype)
        own = (logits.softmax(1).detach() * label).sum(1, keepdim=True)
        soft = label * own + (1 - label) * (1 - own) / (logits.shape[1] - 1)
        wrong = (logits.argmax(1) != y).to(logits.dtype)
        flattened = (wrong * -(soft * logits.log_softmax(1)).sum(1) - each).mean()
        return torch.where(mean > strength, mean, flattened)

    return loss


def _minus_entropy(strength: float, smoothing: float, weigh: Callable[[Tensor, Tensor], Tensor]) -> Loss:
    def loss(logits: Tensor, y: Tensor, epoch: int) -> Tensor:
        log_p = logits.log_softmax(1)
        entropy = -(log_p.exp() * log_p).sum(1)
        gain = (weigh(logits, y) * entropy).mean()
        return functional.cross_entropy(logits, y, label_smoothing=smoothing) - strength * gain

    return loss


@dataclass(frozen=True)
class LossSpec:
    """A loss by name, how strongly it works, and what goes with it; written "name:strength+regulariser:strength+...".

    `regularisers`: augmentations by name and strength, in the order they are done, and "weight_decay", in place of the
    run's own. Strengths that are the defaults may be left out.
    """

    name: str
    strength: float
    regularisers: tuple[tuple[str, float], ...] = ()

    def __str__(self) -> str:
        return "+".join(_write(name, strength) for name, strength in ((self.name, self.strength), *self.regularisers))

    @property
    def weight_decay(self) -> float | None:
        """What stands in for the run's weight decay, if anything."""
        return dict(self.regularisers).get(WEIGHT_DECAY)

    def build(self, smoothing: float = 0.0) -> Loss:
        """Not for SOFT, which is a gradient rule."""
        return LOSSES[self.name][0](self.strength, smoothing)

    def build_augmentation(self) -> Augmentation | None:
        """What is done to each batch before the model sees it."""
        wanted = [(name, strength) for name, strength in self.regularisers if name != WEIGHT_DECAY]
        return chain_augmentations([AUGMENTATIONS[name][0](strength) for name, strength in wanted])


LOSSES: dict[str, tuple[Callable[[float, float], Loss], float]] = {
    "cross_entropy": (make_cross_entropy, 0.0),
    "confidence_penalty": (make_confidence_penalty, 0.1),
    "entropy_correct": (make_entropy_correct, 0.1),
    "entropy_errors": (make_entropy_errors, 0.1),
    "uniform": (make_uniform, 0.1),
    "relax": (make_relax, 0.5),
}
"""Name -> (maker of the loss from strength and label smoothing, default strength)."""
SOFT = "soft"
"""The loss against soft labels (`rules.Distil`): its strength is the share of the hard label."""
WEIGHT_DECAY = "weight_decay"
_DEFAULTS = {name: default for name, (_, default) in LOSSES.items()} | {SOFT: 0.1}
_REGULARISERS = {name: default for name, (_, default) in AUGMENTATIONS.items()} | {WEIGHT_DECAY: 5e-3}


def _write(name: str, strength: float) -> str:
    if strength == {**_DEFAULTS, **_REGULARISERS}[name]:
        return name
    short = f"{strength:g}"
    return f"{name}:{short if float(short) == strength else repr(strength)}"


def parse_loss(text: str, *, where: str) -> LossSpec:
    """ "relax", "relax:0.5", "soft:0.1+cutmix:1+weight_decay:0.005" -> LossSpec.

    ConfigError naming `where` and what would be valid.
    """
    first, *rest = text.split("+")
    name, strength = _parse_part(first, text, _DEFAULTS, "loss", where)
    regularisers = tuple(_parse_part(part, text, _REGULARISERS, "regulariser", where) for part in rest)
    names = [part for part, _ in regularisers]
    if len(set(names)) < len(names) or sum(part in MIXING for part in names) > 1:
        raise ConfigError(
            f"{where}: two of one kind in {text!r}.", hint=f"Of {' and '.join(MIXING)}, give one; the rest once."
        )
    return LossSpec(name, strength, regularisers)


def _parse_part(part: str, text: str, defaults: dict[str, float], kind: str, where: str) -> tuple[str, float]:
    name, colon, strength = part.strip().partition(":")
    if name not in defaults:
        raise ConfigError(f"{where}: unknown {kind} {name!r} in {text!r}.", hint=suggest(name, list(defaults)))
    if not colon:
        return name, defaults[name]
    try:
        value = float(strength)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise ConfigError(
            f"{where}: {strength!r} in {text!r} is no strength.", hint="Write name:number, number at least 0."
        )
    return name, value
