"""Soft labels from teachers that never saw the record: what a model may learn of a member is what a stranger says.

Ours, after SELENA (Tang et al., USENIX Security 2022): `teachers` sparse models, each record left out by
`teachers_without` of them; its soft label is the mean prediction of those. A student that follows such labels answers
members as it would non-members. Teachers are as sparse as the student and cost as much a step.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sctool.domain.compress_config import CompressConfig
from sctool.errors import ConfigError
from sctool.runtimes.eager import EagerSession
from sctool.sparsity.losses import SOFT, LossSpec, parse_loss
from sctool.sparsity.order import DataOrder
from sctool.sparsity.trainer import TrainingState
from sctool.workflows.experiment import FOLDS, TEACHER_ORDER, Experiment
from sctool.workflows.start import start_random

TINY = 1e-8


def check_teachers(teachers: int, without: int, wanted: bool) -> None:
    """ConfigError where soft labels are wanted and the teachers cannot give them."""
    if wanted and not 1 <= without < teachers:
        raise ConfigError(
            f"Loss 'soft' with compress.teachers = {teachers} and teachers_without = {without}.",
            hint="Every record needs a teacher without it, and every teacher records: 1 <= teachers_without < teachers.",
        )


def read_teacher_loss(config: CompressConfig) -> LossSpec:
    """What the teachers train with; ConfigError for soft labels, which they are to make."""
    loss = parse_loss(config.teacher_loss or "cross_entropy", where="compress.teacher_loss")
    if loss.name == SOFT:
        raise ConfigError("compress.teacher_loss is soft: teachers have no teachers.", hint="Name another loss.")
    return loss


def deal_out(experiment: Experiment) -> Tensor:
    """bool [K, N]: True where teacher k does not see training record n; every column has `teachers_without` True."""
    config = experiment.config.compress
    generator = experiment.generator(FOLDS)
    keys = torch.rand(config.teachers, len(experiment.x), generator=generator)
    return keys.argsort(0).argsort(0) < config.teachers_without


def start_teacher(experiment: Experiment) -> TrainingState:
    """The state of a teacher before its first step: the student's own start."""
    return start_random(experiment)


def teacher_records(experiment: Experiment, number: int) -> tuple[Tensor, Tensor, DataOrder]:
    """x, y and the order of the records that teacher `number` sees."""
    rows = (~deal_out(experiment)[number]).nonzero().flatten()
    config = experiment.config.compress
    order = DataOrder(len(rows), config.batch_size, config.seed, TEACHER_ORDER, number)
    return experiment.x[rows], experiment.y[rows], order


def add_predictions(experiment: Experiment, soft: Tensor, teacher: TrainingState, number: int) -> None:
    """Add the teacher's share of the soft labels [N, C] of the records that it did not see, in place."""
    rows = deal_out(experiment)[number].nonzero().flatten()
    logits = EagerSession(teacher.model.eval()).run(experiment.x[rows].cpu().numpy())
    soft[rows] += torch.from_numpy(logits).softmax(1) / experiment.config.compress.teachers_without


def soften(soft: Tensor, temperature: float) -> Tensor:
    """Logits [N, C] whose softmax is soft ** (1 / temperature), normalised."""
    return soft.clamp(min=TINY).log() / temperature
