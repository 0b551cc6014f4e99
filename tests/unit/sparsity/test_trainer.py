"""Masked SGD: masks hold, branches are apart, and steps are PyTorch's own."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from sctool.errors import TrainingError
from sctool.sparsity.maskable import find_maskable
from sctool.sparsity.order import DataOrder
from sctool.sparsity.topology import random_masks
from sctool.sparsity.trainer import (
    RoundGradients,
    TrainingSettings,
    TrainingState,
    change_topology,
    dense_gradients,
    start_training,
    train_until,
)

SETTINGS = TrainingSettings(0.1, 0.9, 1e-3, 40)


def make_order(seed: int = 2) -> DataOrder:
    return DataOrder(64, 16, seed)


def make_data() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(64, 8, generator=generator)
    return x, (x[:, 0] > 0).long()


def make_state(density: float = 0.5) -> TrainingState:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 2))
    names, _ = find_maskable(model, [])
    shapes = {name: tuple(dict(model.named_parameters())[name].shape) for name in names}
    counts = {name: max(1, int(density * shape[0] * shape[1])) for name, shape in shapes.items()}
    return start_training(model, random_masks(shapes, counts, torch.Generator().manual_seed(1)))


def outside(state: TrainingState) -> list[float]:
    parameters = dict(state.model.named_parameters())
    return [float(parameters[n].detach()[~m].abs().sum()) for n, m in state.masks.items()]


def test_nothing_outside_the_masks_ever_moves() -> None:
    state = make_state()
    train_until(state, *make_data(), SETTINGS, 10, make_order())
    assert outside(state) == [0.0, 0.0]
    gradients = dense_gradients(state.model, *make_data())
    change_topology(state, RoundGradients(gradients), drop="magnitude", grow="gradient", fraction=0.5,
                    generator=torch.Generator().manual_seed(4))  # fmt: skip
    assert outside(state) == [0.0, 0.0]


def test_exploration_counts_every_position_that_ever_held_a_weight() -> None:
    state = make_state(0.25)
    seen = {name: mask.clone() for name, mask in state.masks.items()}
    for index in range(4):
        gradients = RoundGradients(dense_gradients(state.model, *make_data()))
        change_topology(state, gradients, drop="magnitude", grow="unfired", fraction=0.5,
                        generator=torch.Generator().manual_seed(index))  # fmt: skip
        seen = {name: seen[name] | mask for name, mask in state.masks.items()}
    assert all(torch.equal(seen[name], mask) for name, mask in state.fired.items())
    assert state.exploration == pytest.approx(
        sum(int(m.sum()) for m in seen.values()) / sum(m.numel() for m in seen.values())
    )
    assert state.exploration > 0.7  # unfired first: a quarter, and an eighth more each round


def test_dense_steps_are_torch_sgd_with_nesterov() -> None:
    state = make_state(1.0)
    state.masks.clear()
    twin = copy.deepcopy(state.model).train()
    x, y = make_data()
    optimiser = torch.optim.SGD(twin.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, 40, eta_min=0.1 * 0.01)
    order = make_order()
    for step in range(6):
        rows = order.rows(step)
        optimiser.zero_grad()
        nn.functional.cross_entropy(twin(x[rows]), y[rows]).backward()
        optimiser.step()
        schedule.step()
    train_until(state, x, y, SETTINGS, 6, make_order())
    for ours, theirs in zip(state.model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_momentum_growth_follows_the_gradients_of_all_steps() -> None:
    """Against the sum written out: momentum of gradients that reach outside the masks, at every step."""
    state, oracle = make_state(), make_state()
    x, y = make_data()
    order, weight = make_order(), dict(oracle.model.named_parameters())["0.weight"]
    expected = torch.zeros_like(weight)
    for step in range(6):
        train_until(oracle, x, y, SETTINGS, step, order)
        oracle.model.train()
        rows = order.rows(step)
        (gradient,) = torch.autograd.grad(functional.cross_entropy(oracle.model(x[rows]), y[rows]), weight)
        expected = SETTINGS.momentum * expected + gradient + SETTINGS.weight_decay * weight.detach()
    train_until(state, x, y, SETTINGS, 6, order)
    assert torch.allclose(state.momenta["0.weight"], expected, atol=1e-5)
    dense = RoundGradients(dense_gradients(state.model, x, y))
    by = {}
    for grow in ("gradient", "momentum"):
        branch = state.branch()
        change_topology(
            branch, dense, drop="magnitude", grow=grow, fraction=0.5, generator=torch.Generator().manual_seed(0)
        )
        new = branch.masks["0.weight"] & ~state.masks["0.weight"]
        assert new.any() and not branch.momenta["0.weight"][new].any()
        by[grow] = new
    assert not torch.equal(by["gradient"], by["momentum"])


def test_a_branch_is_apart_from_its_parent() -> None:
    parent = make_state()
    before = copy.deepcopy(parent.model.state_dict())
    train_until(parent.branch(), *make_data(), SETTINGS, 5, make_order())
    assert all(torch.equal(before[name], value) for name, value in parent.model.state_dict().items())
    assert parent.step == 0


def test_dense_gradients_reach_outside_the_masks_and_leave_batch_norm_alone() -> None:
    state = make_state(0.3)
    before = state.model[1].running_mean.clone()  # type: ignore[union-attr, operator]
    gradients = dense_gradients(state.model, *make_data())
    assert float(gradients["0.weight"][~state.masks["0.weight"]].abs().sum()) > 0
    assert torch.equal(before, state.model[1].running_mean)  # type: ignore[arg-type]


def test_a_loss_that_is_not_finite_names_the_step_and_the_rate() -> None:
    with pytest.raises(TrainingError, match=r"at step \d+.*now 1e\+20"):
        settings = TrainingSettings(1e20, 0.9, 0.0, 40)
        train_until(make_state(), *make_data(), settings, 40, make_order())


@given(st.integers(1, 70), st.integers(1, 40), st.integers(0, 99))
def test_an_epoch_is_a_permutation_and_follows_from_the_step(records: int, size: int, seed: int) -> None:
    order = DataOrder(records, size, seed)
    steps = range(3 * order.steps_per_epoch)
    batches = [order.rows(step) for step in steps]
    left_out = records % size == 1 and records > size
    for epoch in range(3):
        rows = torch.cat(batches[epoch * order.steps_per_epoch : (epoch + 1) * order.steps_per_epoch]).tolist()
        assert len(rows) == len(set(rows)) == records - left_out
    assert all(0 < len(batch) <= size for batch in batches)
    fresh = DataOrder(records, size, seed)
    assert all(torch.equal(fresh.rows(step), batches[step]) for step in reversed(steps))


class _Noisy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.layers(x)
        return logits


def test_training_in_slices_is_training_in_one_go() -> None:
    """Also with BatchNorm and dropout, and whatever else draws random numbers in between."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = _Noisy()
        one, other = start_training(copy.deepcopy(model), {}), start_training(copy.deepcopy(model), {})
        train_until(one, *make_data(), SETTINGS, 13, make_order())
        for end in (1, 5, 6, 13):
            torch.rand(end)
            train_until(other, *make_data(), SETTINGS, end, make_order())
    for name, value in one.model.state_dict().items():
        assert torch.equal(value, other.model.state_dict()[name]), name


def test_dropout_differs_from_step_to_step() -> None:
    settings = TrainingSettings(0.0, 0.0, 0.0, 40)
    state = start_training(_Noisy(), {})
    order = DataOrder(64, 64, 0)
    losses = [train_until(state, *make_data(), settings, step, order) for step in (1, 2, 3)]
    assert len(set(losses)) == 3


def test_layers_that_cannot_be_masked_are_named() -> None:
    model = nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 3), nn.ConvTranspose1d(3, 2, 1))
    names, left = find_maskable(model, [])
    assert names == ["1.weight"]
    assert [item["layer"] for item in left] == ["0.weight", "2.weight"]
    assert "Embedding" in left[0]["reason"]
    names, left = find_maskable(model, ["1.weight"])
    assert names == [] and left[1]["reason"] == "listed in compress.leave_dense"
