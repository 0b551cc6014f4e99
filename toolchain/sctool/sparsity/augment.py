"""Augmentations: what a training step sees in place of the records themselves.

Each takes inputs [B, ...] and gives as many, and, where it mixes records, how much of each input is its own and who the
partner is. A model that never sees a member as it is has less of it to remember; the attack tests use the records as
they are. All draw from torch's global generator, which the trainer seeds for each step, and so on the CPU: devices agree.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from sctool.errors import ConfigError


@dataclass(frozen=True)
class Batch:
    """x [B, ...]; input k is by `share` of record k and by 1 - share of record partner[k] (None: its own alone)."""

    x: Tensor
    share: float = 1.0
    partner: Tensor | None = None

    def mix(self, objective: Callable[[Tensor], Tensor], rows: Tensor) -> Tensor:
        """The objective of the batch's own rows [B] and of their partners', by their shares."""
        own = objective(rows)
        return own if self.partner is None else self.share * own + (1 - self.share) * objective(rows[self.partner])


Augmentation = Callable[[Tensor], Batch]


def make_cutmix(alpha: float) -> Augmentation:
    """CutMix (Yun et al., ICCV 2019): a part of each input comes from another record of the batch.

    Images [B, C, H, W]: one box for the batch; series [B, C, T]: one stretch of time; vectors [B, F]: values at random,
    drawn for each record. The part taken is 1 - share, share ~ Beta(alpha, alpha).
    """

    draw_share = _make_share(alpha)

    def cutmix(x: Tensor) -> Batch:
        share, partner = draw_share(), torch.randperm(len(x))
        if x.ndim == 2:
            own = torch.rand(x.shape) < share
        else:
            sides = x.shape[2:]
            own = torch.ones(sides, dtype=torch.bool)
            edge = (1 - share) ** (1 / len(sides))
            spans = [_draw_span(side, edge) for side in sides]
            own[tuple(spans)] = False
            share = float(own.float().mean())
        return Batch(torch.where(own.to(x.device), x, x[partner]), share, partner)

    return cutmix


def make_mixup(alpha: float) -> Augmentation:
    """mixup (Zhang et al., ICLR 2018): a weighted mean with another record of the batch, share ~ Beta(alpha, alpha)."""

    draw_share = _make_share(alpha)

    def mixup(x: Tensor) -> Batch:
        share, partner = draw_share(), torch.randperm(len(x))
        return Batch(x.lerp(x[partner], 1 - share), share, partner)

    return mixup


def make_erase(probability: float) -> Augmentation:
    """Each value is zero with `probability`, the others stay as they are."""
    return lambda x: Batch(x * (torch.rand(x.shape) >= probability).to(x.device))


def make_noise(deviation: float) -> Augmentation:
    """Normal noise of this standard deviation on each value."""
    return lambda x: Batch(x + deviation * torch.randn(x.shape).to(x.device))


def make_shift(most: float) -> Augmentation:
    """Images and series [B, C, ...]: the batch is moved by up to `most` places along each axis; zeros come in."""

    def shift(x: Tensor) -> Batch:
        axes = tuple(range(2, x.ndim))
        if not axes:
            raise ConfigError(
                f"Augmentation shift needs images or series; the records have shape {list(x.shape[1:])}.", hint=_HINT
            )
        for axis in axes:
            steps = torch.randint(-int(most), int(most) + 1, (len(x),))
            place = torch.arange(x.shape[axis]) - steps.unsqueeze(1)
            place = place.to(x.device)
            inside = (place >= 0) & (place < x.shape[axis])
            shape = [len(x)] + [1] * (x.ndim - 1)
            shape[axis] = x.shape[axis]
            index = place.clamp(0, x.shape[axis] - 1).view(shape).expand_as(x)
            x = x.gather(axis, index) * inside.view(shape)
        return Batch(x)

    return shift


def make_flip(probability: float) -> Augmentation:
    """Images [B, C, H, W]: each is mirrored left to right with `probability`."""

    def flip(x: Tensor) -> Batch:
        if x.ndim != 4:
            raise ConfigError(
                f"Augmentation flip needs images; the records have shape {list(x.shape[1:])}.", hint=_HINT
            )
        turned = (torch.rand(len(x)) < probability).view(-1, 1, 1, 1).to(x.device)
        return Batch(torch.where(turned, x.flip(3), x))

    return flip


AUGMENTATIONS: dict[str, tuple[Callable[[float], Augmentation], float]] = {
    "cutmix": (make_cutmix, 1.0), "mixup": (make_mixup, 1.0), "erase": (make_erase, 0.3), "noise": (make_noise, 0.1),
    "shift": (make_shift, 2.0), "flip": (make_flip, 0.5),
}  # fmt: skip
"""Name -> (maker from a strength, default strength)."""
_HINT = "Take another, for example cutmix or erase, or give the records their shape."
MIXING = ("cutmix", "mixup")


def chain_augmentations(parts: list[Augmentation]) -> Augmentation | None:
    """One after the other, at most one of them mixing; None for none."""
    if not parts:
        return None

    def run(x: Tensor) -> Batch:
        batch = Batch(x)
        for part in parts:
            changed = part(batch.x)
            batch = changed if changed.partner is not None else Batch(changed.x, batch.share, batch.partner)
        return batch

    return run


def _make_share(alpha: float) -> Callable[[], float]:
    """Draws from Beta(alpha, alpha); 1 for alpha = 0."""
    if alpha == 0:
        return lambda: 1.0
    beta = torch.distributions.Beta(alpha, alpha)
    return lambda: float(beta.sample())


def _draw_span(side: int, edge: float) -> slice:
    """A stretch of about edge * side places around a random centre, cut at the ends."""
    centre, half = int(torch.randint(side, ())), edge * side / 2
    return slice(max(0, round(centre - half)), min(side, round(centre + half)))
