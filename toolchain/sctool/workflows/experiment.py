"""What stays the same through a run: settings, records, and how a model is built, tested and attacked."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sctool.data.canaries import draw_canaries
from sctool.data.dataset import Dataset
from sctool.data.source import load_dataset, resolve_split
from sctool.data.splits import make_split
from sctool.domain.config import Config
from sctool.domain.data_config import SplitConfig
from sctool.domain.measurement import AttackResult
from sctool.domain.membership import Canaries, MembershipSplit
from sctool.models.build import build_model
from sctool.runtimes.eager import EagerSession
from sctool.sparsity.device import PRECISIONS, choose_device, place_model, place_records
from sctool.sparsity.losses import LossSpec
from sctool.sparsity.order import mix_seed, seed_generator
from sctool.sparsity.trainer import TrainingSettings
from sctool.workflows.signals import attack_session, measure_accuracy

(
    DENSE_ORDER, INITIAL_MASKS, SPARSE_ORDER, ROUND_GRADIENT, TOPOLOGY, NOISE, INITIAL_WEIGHTS, FOLDS, TEACHER_ORDER,
) = range(9)  # fmt: skip


@dataclass(frozen=True)
class Experiment:
    """x [N, ...] and y [N] are the training records alone, canaries among them; `shares`: the split, whole, as it was
    asked for; `canaries`: None without a one-run audit."""

    config: Config
    data: Dataset
    shares: SplitConfig
    split: MembershipSplit
    x: Tensor
    y: Tensor
    device: torch.device
    canaries: Canaries | None = None

    def records(self, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """x [n, ...], y [n] of these rows of the data set, on the device."""
        return _take(self.data, rows, self.device)

    def settings(self, total_steps: int, loss: LossSpec) -> TrainingSettings:
        c = self.config.compress
        decay = c.weight_decay if loss.weight_decay is None else loss.weight_decay
        return TrainingSettings(
            c.learning_rate, c.momentum, decay, total_steps, c.learning_rate_schedule,
            mix_seed(c.seed, NOISE) // 2, any("/momentum" in candidate for candidate in c.candidates),
        )  # fmt: skip

    def build(self) -> nn.Module:
        """The model with its first weights, on the device."""
        model = build_model(
            self.config.model.source, self.config.model.options,
            input_shape=self.data.x.shape[1:], classes=self.data.classes, seed=self.config.compress.seed,
        )  # fmt: skip
        return place_model(model, self.device)

    @property
    def precision(self) -> torch.dtype | None:
        return PRECISIONS[self.config.compress.autocast or "float32"]

    def generator(self, *purpose: int) -> torch.Generator:
        return seed_generator(self.config.compress.seed, *purpose)

    def task_accuracy(self, model: nn.Module, part: str = "validation") -> float:
        return measure_accuracy(EagerSession(model.eval()), self.data, self.split[part])

    def attack(self, model: nn.Module) -> list[AttackResult]:
        """The safety tests of the search: fitted on `attack_fit`, scored on `attack_select`."""
        return attack_session(
            EagerSession(model.eval()), self.data, self.split, attacks=self.config.safety.selection_attacks,
            fit="attack_fit", score="attack_select", seed=self.config.compress.seed,
        )  # fmt: skip


def prepare_experiment(config: Config, data: Dataset | None = None) -> Experiment:
    """Load the data, unless `data` are what the config names, and split them. Raises ConfigError and DataError as these
    do."""
    data = data or load_dataset(config.data.source, config.data.root)
    shares = resolve_split(config.data)
    split = make_split(data.y, shares, data.in_train)
    device = choose_device(config.compress.device)
    canaries = None
    if config.compress.canaries:
        count = config.compress.canaries
        canaries, split = draw_canaries(split, data.y, data.classes, count, config.compress.seed)
    x, y = _take(data, split["train"], device)
    if canaries is not None:
        more, _ = _take(data, canaries.rows[canaries.is_in], device)
        labels = torch.from_numpy(canaries.labels[canaries.is_in]).to(device)
        x, y = torch.cat([x, more]), torch.cat([y, labels])
    return Experiment(config, data, shares, split, x, y, device, canaries)


def _take(data: Dataset, rows: NDArray[np.int64], device: torch.device) -> tuple[Tensor, Tensor]:
    x, y = torch.from_numpy(data.x[rows]), torch.from_numpy(data.y[rows])
    return place_records(x, device), y.to(device)
