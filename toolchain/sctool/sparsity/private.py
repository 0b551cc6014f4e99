"""DP-SGD (Abadi et al., CCS 2016, algorithm 1): clipped per-record gradients, Gaussian noise, Poisson batches.

The guarantee is the accountant's, under its assumptions:

- each record is in each batch independently, with one fixed probability: `PoissonOrder`. `DataOrder` shuffles epochs
  instead, and the accountant's number with batch size / records is not its cost. What holds for it is the larger
  epsilon(noise_multiplier / 2, 1.0, epochs, delta), where neighbours differ by one record replaced: a record is in one
  batch of an epoch, so that an epoch is one Gaussian mechanism of sensitivity 2 * clip.
- the gradient is divided by a number that does not depend on the batch: `expected_batch`.
- the masks do not depend on the records. Topology changes by gradients, and the choice among candidates, look at
  records without noise and are outside the guarantee; so is comparing two branches of one state, which share the noise.
- nobody who attacks knows the seeds: noise and batches follow from them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vmap
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase

from sctool.errors import ConfigError, TrainingError
from sctool.sparsity.ghost import sum_clipped
from sctool.sparsity.losses import Loss, make_cross_entropy
from sctool.sparsity.order import DataOrder, seed_generator

if TYPE_CHECKING:
    from sctool.sparsity.trainer import TrainingState

Gradients = dict[str, Tensor]
PerRecord = Callable[[Gradients, Gradients, Tensor, Tensor], tuple[Gradients, Tensor]]


class PoissonOrder(DataOrder):
    """Each step takes each of `records` rows with probability `sample_rate`, independently; batches may be empty.

    `batch_size` is the expected size of a batch: the `expected_batch` of `PrivateGradient`.
    """

    def __init__(self, records: int, batch_size: int, *seed: int) -> None:
        super().__init__(records, batch_size, *seed)
        self.sample_rate = min(1.0, batch_size / records)
        self.expected_batch = self.sample_rate * records
        self.steps_per_epoch = max(1, round(1 / self.sample_rate))

    def rows(self, step: int) -> Tensor:
        """int64 [B]: the rows of step `step`, ascending; B is binomial."""
        draws = torch.rand(self._records, generator=seed_generator(*self._seed, step), dtype=torch.float64)
        return (draws < self.sample_rate).nonzero().flatten()


@dataclass(frozen=True)
class PrivateGradient:
    """(sum of the records' gradients, each cut to L2 norm `clip`, + N(0, (noise_multiplier * clip)^2)) / batch size.

    The norm is over all parameters together. Masked positions count for nothing: their gradients are zeroed before
    the norm is taken, and they get no noise. `loss` is called on one record at a time. `expected_batch`: what to divide
    by; None divides by the size of each batch, which the accountant does not allow with `PoissonOrder`. `memory`: bytes
    of per-record gradients held at a time, where any are (a chain of linear layers needs none: `ghost`); another bound
    changes rounding, and what a model with dropout draws.
    """

    needs_dense_weights: ClassVar[bool] = True
    clip: float
    noise_multiplier: float
    expected_batch: float | None = None
    loss: Loss = field(default_factory=lambda: make_cross_entropy(0.0, 0.0))
    memory: int = 2**28

    def __post_init__(self) -> None:
        if not (0 < self.clip < float("inf") and 0 <= self.noise_multiplier < float("inf")):
            raise ConfigError(
                f"No private gradient with clip {self.clip} and noise multiplier {self.noise_multiplier}.",
                hint="Expected: clip above 0, noise multiplier at least 0.",
            )

    def __call__(self, state: TrainingState, x: Tensor, y: Tensor, rows: Tensor, epoch: int) -> Tensor:
        refuse_shared_statistics(state.model)
        parameters = {name: p for name, p in state.model.named_parameters() if p.requires_grad}
        totals, losses = self._sum_clipped(state, parameters, x[rows], y[rows], epoch)
        divisor = self.expected_batch or max(len(rows), 1)
        for name, parameter in parameters.items():
            noise = torch.randn_like(parameter) * (self.noise_multiplier * self.clip)
            total = totals[name].add_(noise).div_(divisor)
            parameter.grad = total.masked_fill_(~state.masks[name], 0.0) if name in state.masks else total
        return losses / max(len(rows), 1)

    def _sum_clipped(
        self, state: TrainingState, parameters: dict[str, nn.Parameter], x: Tensor, y: Tensor, epoch: int
    ) -> tuple[Gradients, Tensor]:
        """(parameter -> sum of the clipped gradients of x [B, ...], y [B]; sum of the losses)."""
        whole = sum_clipped(state.model, state.masks, x, y, self.loss, epoch, self.clip) if len(x) else None
        if whole is not None:
            return whole[0], whole[1].sum()
        totals = {name: torch.zeros_like(p) for name, p in parameters.items()}
        losses = torch.zeros(())
        size = sum(p.numel() * p.element_size() for p in parameters.values())
        for chunk in torch.split(torch.arange(len(x)), max(1, self.memory // max(size, 1))) if len(x) else ():
            each, values = _per_record_gradients(state.model, parameters, x[chunk], y[chunk], self.loss, epoch)
            _add_clipped(totals, each, state.masks, self.clip)
            losses = losses + values.sum()
        return totals, losses


def refuse_shared_statistics(model: nn.Module) -> None:
    """TrainingError where a layer makes one record's gradient depend on others: per-record clipping bounds nothing."""
    for name, layer in model.named_modules():
        shared = isinstance(layer, _BatchNorm) or (isinstance(layer, _NormBase) and layer.track_running_stats)
        if shared and layer.training:
            raise TrainingError(
                f"Private gradients cannot train {name or 'the model'} ({type(layer).__name__}): its statistics mix"
                " the records of a batch.",
                hint="Use nn.GroupNorm there, or a model without batch normalisation.",
            )


def _per_record_gradients(
    model: nn.Module, parameters: dict[str, nn.Parameter], x: Tensor, y: Tensor, loss: Loss, epoch: int
) -> tuple[Gradients, Tensor]:
    """x [B, ...], y [B] -> ({name: [B, *shape]}, losses [B]); dropout draws anew for each record."""

    def one(weights: Gradients, buffers: Gradients, record: Tensor, label: Tensor) -> Tensor:
        logits = functional_call(model, (weights, buffers), (record.unsqueeze(0),))
        return loss(logits, label.unsqueeze(0), epoch)

    weights = {name: p.detach() for name, p in parameters.items()}
    others = {name: b for name, b in (*model.named_buffers(), *model.named_parameters()) if name not in weights}
    batched = vmap(cast(Any, grad_and_value(one)), in_dims=(None, None, 0, 0), randomness="different")
    return cast(PerRecord, batched)(weights, {name: b.detach() for name, b in others.items()}, x, y)


def _add_clipped(totals: Gradients, each: Gradients, masks: Gradients, clip: float) -> None:
    """Add the records' gradients [B, *shape], masked and cut to norm `clip`, to `totals` [*shape], in place."""
    for name, mask in masks.items():
        if name in each:
            each[name].masked_fill_(~mask, 0.0)
    norms = torch.stack([gradient.flatten(1).norm(dim=1) for gradient in each.values()]).norm(dim=0)
    factors = (clip / norms.clamp(min=clip)).to(norms.dtype)
    for name, gradient in each.items():
        totals[name].add_(torch.tensordot(factors, gradient, dims=1))
