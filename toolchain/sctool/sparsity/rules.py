"""Gradient rules: how one step turns a batch into the gradients that the masked optimiser uses.

A rule fills `.grad` of the state's model and returns the batch's loss, detached. What it draws at random comes from
torch's global generator, which the trainer seeds for each step; what it remembers lives in `state.extras`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from torch import Tensor
from torch.nn import functional

from sctool.sparsity.augment import Augmentation, Batch
from sctool.sparsity.losses import Loss, make_cross_entropy

if TYPE_CHECKING:
    from sctool.sparsity.trainer import TrainingState


class GradientRule(Protocol):
    def __call__(self, state: TrainingState, x: Tensor, y: Tensor, rows: Tensor, epoch: int) -> Tensor: ...


class ByBatch(ABC):
    """A rule whose gradient is that of one value of the batch's logits: models with such rules can be trained together."""

    augment: Augmentation | None

    def show(self, x: Tensor, rows: Tensor) -> Batch:
        """What the model sees of these rows of x [N, ...]: augmented, or as they are."""
        return self.augment(x[rows]) if self.augment else Batch(x[rows])

    @abstractmethod
    def weigh(self, logits: Tensor, batch: Batch, y: Tensor, rows: Tensor, epoch: int) -> Tensor:
        """The value of logits [B, C] for that batch."""

    def __call__(self, state: TrainingState, x: Tensor, y: Tensor, rows: Tensor, epoch: int) -> Tensor:
        batch = self.show(x, rows)
        return state.backward(self.weigh(state.forward(batch.x), batch, y, rows, epoch))


@dataclass(frozen=True)
class Backpropagate(ByBatch):
    """The gradient of a loss on the batch, augmented or as it is."""

    loss: Loss = field(default_factory=lambda: make_cross_entropy(0.0, 0.0))
    augment: Augmentation | None = None

    def weigh(self, logits: Tensor, batch: Batch, y: Tensor, rows: Tensor, epoch: int) -> Tensor:
        return batch.mix(lambda chosen: self.loss(logits, y[chosen], epoch), rows)


@dataclass(frozen=True)
class Distil(ByBatch):
    """`hard` * cross-entropy with the labels + (1 - hard) * cross-entropy with a teacher's softened prediction.

    teacher: logits [N, C] for the rows of x. hard = 0.5 at temperature 1 is the authors' code; hard = 0 on records
    that the teacher was not trained on is the student's step of DMP (Shejwalkar & Houmansadr, AAAI 2021).
    """

    teacher: Tensor
    hard: float = 0.5
    temperature: float = 1.0
    augment: Augmentation | None = None

    def weigh(self, logits: Tensor, batch: Batch, y: Tensor, rows: Tensor, epoch: int) -> Tensor:
        return batch.mix(lambda chosen: self._objective(logits, y[chosen], self.teacher[chosen]), rows)

    def _objective(self, logits: Tensor, y: Tensor, teacher: Tensor) -> Tensor:
        target = (teacher / self.temperature).softmax(1)
        soft = functional.cross_entropy(logits / self.temperature, target) * self.temperature**2
        return self.hard * functional.cross_entropy(logits, y) + (1 - self.hard) * soft
