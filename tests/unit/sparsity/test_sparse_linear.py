"""Training on non-zeros alone: step for step what dense execution does, and dense where it would not be."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from sctool.sparsity import sparse_linear
from sctool.sparsity.losses import parse_loss
from sctool.sparsity.order import DataOrder
from sctool.sparsity.private import PrivateGradient
from sctool.sparsity.rules import Backpropagate, Distil, GradientRule
from sctool.sparsity.sparse_linear import find_sparse_layers, make_plan, run_sparsely, runs_alike
from sctool.sparsity.topology import random_masks
from sctool.sparsity.trainer import (
    RoundGradients,
    TrainingSettings,
    TrainingState,
    answer_sparsely,
    change_topology,
    dense_gradients,
    start_training,
    train_until,
)

SETTINGS = TrainingSettings(0.05, 0.9, 5e-4, 60, noise_seed=3)
ORDER = DataOrder(96, 16, 1)


def make_data() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    y = torch.randint(0, 3, (96,), generator=generator)
    return torch.randn(96, 140, generator=generator) + functional.one_hot(y, 140) * 3, y


def make_state(model: nn.Module, density: float = 0.1) -> TrainingState:
    shapes = {name: tuple(p.shape) for name, p in model.named_parameters() if p.ndim == 2}
    counts = {name: max(1, int(density * shape[0] * shape[1])) for name, shape in shapes.items()}
    return start_training(model, random_masks(shapes, counts, torch.Generator().manual_seed(1)))


def make_mlp(*, bias: bool = True, dropout: float = 0.0) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Linear(140, 160, bias=bias), nn.BatchNorm1d(160), nn.ReLU(), nn.Dropout(dropout),
            nn.Linear(160, 130, bias=bias), nn.ReLU(), nn.Linear(130, 3),
        )  # fmt: skip


def train(state: TrainingState, rule: GradientRule, *, steps: int = 40) -> TrainingState:
    """Two stretches with a change of topology between them."""
    x, y = make_data()
    train_until(state, x, y, SETTINGS, steps // 2, ORDER, rule)
    gradients = RoundGradients(dense_gradients(state.model, x, y))
    change_topology(
        state, gradients, drop="magnitude", grow="random", fraction=0.3, generator=torch.Generator().manual_seed(2)
    )
    train_until(state, x, y, SETTINGS, steps, ORDER, rule)
    return state


def make_rule(text: str) -> GradientRule:
    spec = parse_loss(text, where="test")
    return Backpropagate(spec.build(), spec.build_augmentation())


RULES: dict[str, Callable[[], GradientRule]] = {
    "cross-entropy": Backpropagate,
    "relax and cutmix": lambda: make_rule("relax+cutmix"),
    "distil": lambda: Distil(torch.randn(96, 3, generator=torch.Generator().manual_seed(5)), 0.3),
}  # fmt: skip


@pytest.mark.parametrize("rule", list(RULES))
@pytest.mark.parametrize("bias", [True, False])
def test_it_trains_as_dense_execution_does(monkeypatch: pytest.MonkeyPatch, rule: str, bias: bool) -> None:
    sparse = train(make_state(make_mlp(bias=bias, dropout=0.2)), RULES[rule]())
    assert set(sparse.plans) == {"0.weight", "4.weight"}
    monkeypatch.setattr(sparse_linear, "MAX_DENSITY", 0.0)
    dense = train(make_state(make_mlp(bias=bias, dropout=0.2)), RULES[rule]())
    assert not dense.plans
    pairs = zip(sparse.model.named_parameters(), dense.model.named_parameters(), strict=True)
    for (name, found), (also, expected) in pairs:
        assert name == also and found.shape == expected.shape
        torch.testing.assert_close(found, expected, rtol=2e-3, atol=2e-4)
        if name in sparse.masks:
            mask = sparse.masks[name]
            assert torch.equal(mask, dense.masks[name])
            assert not found[~mask].any() and not torch.signbit(found[~mask]).any()
            torch.testing.assert_close(sparse.momenta[name][mask], dense.momenta[name][mask], rtol=2e-2, atol=2e-3)
    assert all("forward" not in vars(layer) for layer in sparse.model.modules())


def test_slices_and_copies_change_nothing() -> None:
    whole = train(make_state(make_mlp()), Backpropagate())
    x, y = make_data()
    state = make_state(make_mlp())
    for end in (3, 4, 20):
        state = state.branch()
        train_until(state, x, y, SETTINGS, end, ORDER)
    gradients = RoundGradients(dense_gradients(state.model, x, y))
    change_topology(
        state, gradients, drop="magnitude", grow="random", fraction=0.3, generator=torch.Generator().manual_seed(2)
    )
    train_until(state, x, y, SETTINGS, 40, ORDER)
    for found, expected in zip(state.model.parameters(), whole.model.parameters(), strict=True):
        assert torch.equal(found, expected)


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 5), st.floats(0, 0.6), st.integers(0, 2**30))
@settings(max_examples=60, deadline=None)
def test_products_and_gradients_are_those_of_the_dense_matrix(
    outputs: int, inputs: int, batch: int, density: float, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    mask = torch.rand(outputs, inputs, generator=generator) < density
    mask[0, 0] = True
    weight = torch.randn(outputs, inputs, generator=generator) * mask
    x = torch.randn(batch, inputs, generator=generator)
    back = torch.randn(batch, outputs, generator=generator)
    x_dense, w_dense = x.clone().requires_grad_(), weight.clone().requires_grad_()
    expected = functional.linear(x_dense, w_dense)
    expected.backward(back)
    plan = make_plan(mask)
    x_sparse, values = x.clone().requires_grad_(), weight[mask].clone().requires_grad_()
    found = sparse_linear._Multiply.apply(x_sparse, values, plan)
    found.backward(back)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(x_sparse.grad, x_dense.grad, rtol=1e-4, atol=1e-5)
    assert w_dense.grad is not None
    torch.testing.assert_close(values.grad, w_dense.grad[mask], rtol=1e-4, atol=1e-5)


class Peeks(nn.Module):
    """Reads a weight past its layer's forward."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(140, 160), nn.Linear(160, 3)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.last(functional.linear(x, self.first.weight).relu())
        return out


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.last = nn.Linear(140, 140), nn.Linear(140, 140), nn.Linear(140, 3)
        self.two.weight = self.one.weight

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.last(self.two(self.one(x).relu()))
        return out


@pytest.mark.parametrize(("make", "candidates"), [(Peeks, True), (Tied, False)])
def test_a_model_that_would_not_answer_alike_runs_densely(make: Callable[[], nn.Module], candidates: bool) -> None:
    model = make()
    before = copy.deepcopy(model.state_dict())
    state = make_state(model)
    x, y = make_data()
    layers = find_sparse_layers(model, state.masks)
    assert bool(layers) == candidates
    assert not layers or not runs_alike(model, layers, state.masks, state.momenta, x[:2])
    train_until(state, x, y, SETTINGS, 2, ORDER)
    assert not state.plans and not any(state.alike.values()) and set(model.state_dict()) == set(before)


def test_what_needs_dense_weights_gets_them() -> None:
    x, y = make_data()
    for settings_, rule in (
        (TrainingSettings(0.05, 0.9, 5e-4, 60, dense_momentum=True), Backpropagate()),
        (SETTINGS, PrivateGradient(1.0, 0.1)),
    ):
        model = nn.Sequential(nn.Linear(140, 160), nn.ReLU(), nn.Linear(160, 3))
        state = make_state(model)
        train_until(state, x, y, settings_, 3, ORDER, rule)
        assert not state.plans
    assert train(make_state(make_mlp(), density=0.5), Backpropagate()).plans == {}


def test_a_trained_model_answers_tests_on_its_non_zeros() -> None:
    state = train(make_state(make_mlp()), Backpropagate())
    x, _ = make_data()
    before = {name: tensor.clone() for name, tensor in state.model.state_dict().items()}
    with torch.no_grad():
        expected = state.model.eval()(x)
        with answer_sparsely(state) as model:
            assert model[0].weight.ndim == 1 and not model.training  # type: ignore[index]
            torch.testing.assert_close(model(x), expected, rtol=1e-4, atol=1e-5)
    assert all(torch.equal(before[name], tensor) for name, tensor in state.model.state_dict().items())
    untried = make_state(make_mlp())
    with answer_sparsely(untried) as model:
        assert model[0].weight.ndim == 2  # type: ignore[index]


def test_the_model_is_whole_again_after_an_error() -> None:
    state = make_state(make_mlp())
    layers = find_sparse_layers(state.model, state.masks)
    with pytest.raises(ZeroDivisionError), run_sparsely(layers, state.masks, state.momenta, state.plans) as chosen:
        assert set(chosen) == {"0.weight", "4.weight"} and state.model[0].weight.ndim == 1  # type: ignore[index]
        raise ZeroDivisionError
    assert state.model[0].weight.shape == (160, 140)  # type: ignore[index]
    assert state.model(torch.zeros(4, 140)).shape == (4, 3)
