"""Models trained as one program, held against the same models trained one after another."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sctool.errors import TrainingError
from sctool.models.tabular import Mlp
from sctool.sparsity import stacked
from sctool.sparsity.losses import parse_loss
from sctool.sparsity.order import DataOrder
from sctool.sparsity.rules import Backpropagate, Distil, GradientRule
from sctool.sparsity.stacked import Lane, can_stack, train_lanes
from sctool.sparsity.trainer import TrainingSettings, TrainingState, start_training, train_until

WIDTH, CLASSES = 60, 5
SETTINGS = TrainingSettings(0.05, 0.9, 1e-3, 40)


def make_masks(model: nn.Module, density: float) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    names = [name for name, p in model.named_parameters() if p.ndim == 2]
    named = dict(model.named_parameters())
    shares = {name: density if named[name].numel() >= 2**14 else 0.4 for name in names}
    return {name: torch.rand(named[name].shape, generator=generator) < share for name, share in shares.items()}


def make_model(seed: int, *, activation: str = "relu", dropout: float = 0.0) -> nn.Module:
    torch.manual_seed(seed)
    return Mlp((3, WIDTH // 3), CLASSES, (300, 200, 20), activation, dropout)


def make_lanes(
    count: int, rule: Callable[[int, Tensor], GradientRule], *, model: Callable[[int], nn.Module] = make_model,
    density: float = 0.06,
) -> list[Lane]:  # fmt: skip
    """Lanes with as many records as differ in the last batch, and more or fewer batches an epoch."""
    masks, lanes = make_masks(model(0), density), []
    for k in range(count):
        generator = torch.Generator().manual_seed(k)
        x = torch.randn(70 + 9 * k, 3, WIDTH // 3, generator=generator)
        y = torch.randint(0, CLASSES, (len(x),), generator=generator)
        settings = TrainingSettings(**{**vars(SETTINGS), "noise_seed": 100 * k})
        lanes.append(Lane(start_training(model(k), masks), x, y, settings, DataOrder(len(x), 16, k), rule(k, x)))
    return lanes


def by_loss(text: str) -> Callable[[int, Tensor], GradientRule]:
    spec = parse_loss(text, where="test")
    return lambda k, x: Backpropagate(spec.build(0.0), spec.build_augmentation())


def by_teacher(k: int, x: Tensor) -> GradientRule:
    return Distil(torch.randn(len(x), CLASSES, generator=torch.Generator().manual_seed(k)), 0.3, 2.0)


def train_apart(lanes: list[Lane], end: int) -> list[TrainingState]:
    states = [copy.deepcopy(lane.state) for lane in lanes]
    for lane, state in zip(lanes, states, strict=True):
        train_until(state, lane.x, lane.y, lane.settings, end, lane.order, lane.rule)
    return states


@pytest.mark.parametrize(
    "rule", [by_loss("cross_entropy"), by_loss("relax:0.5"), by_loss("cross_entropy+erase+noise:0.1"), by_teacher]
)
@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_together_is_as_one_by_one(rule: Callable[[int, Tensor], GradientRule], activation: str) -> None:
    lanes = make_lanes(3, rule, model=lambda seed: make_model(seed, activation=activation))
    assert can_stack(lanes)
    apart = train_apart(lanes, 25)
    train_lanes(lanes, 12)
    train_lanes(lanes, 25)
    for lane, expected in zip(lanes, apart, strict=True):
        assert lane.state.step == 25
        named = dict(expected.model.named_parameters())
        for name, parameter in lane.state.model.named_parameters():
            torch.testing.assert_close(parameter.data, named[name].data, rtol=1e-3, atol=1e-5)
            torch.testing.assert_close(lane.state.momenta[name], expected.momenta[name], rtol=1e-3, atol=1e-4)
            if name in lane.state.masks:
                assert not bool(parameter.data[~lane.state.masks[name]].any())


def test_the_same_bytes_each_time() -> None:
    first, second = (make_lanes(4, by_loss("cross_entropy+erase")) for _ in range(2))
    for lanes in (first, second):
        train_lanes(lanes, 20)
    for one, other in zip(first, second, strict=True):
        for a, b in zip(one.state.model.parameters(), other.state.model.parameters(), strict=True):
            assert torch.equal(a, b)


def test_the_callers_random_numbers_stay() -> None:
    lanes = make_lanes(2, by_loss("cross_entropy+noise:0.1"))
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    train_lanes(lanes, 3)
    torch.testing.assert_close(torch.rand(3), expected, rtol=0, atol=0)


def shared_weight(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    first, second = nn.Linear(WIDTH, 300), nn.Linear(300, 300)
    again = nn.Linear(300, 300)
    again.weight = second.weight
    return nn.Sequential(nn.Flatten(), first, nn.ReLU(), second, nn.ReLU(), again, nn.ReLU(), nn.Linear(300, CLASSES))


@pytest.mark.parametrize(
    "change",
    [
        {"density": 0.5},
        {"model": lambda seed: make_model(seed, dropout=0.1)},
        {"model": shared_weight},
    ],
)
def test_what_is_no_sparse_chain_is_trained_one_by_one_to_the_same_bytes(change: dict[str, object]) -> None:
    lanes = make_lanes(2, by_loss("cross_entropy"), **change)  # type: ignore[arg-type]
    assert not can_stack(lanes)
    apart = train_apart(lanes, 5)
    train_lanes(lanes, 5)
    for lane, expected in zip(lanes, apart, strict=True):
        for a, b in zip(lane.state.model.parameters(), expected.model.parameters(), strict=True):
            assert torch.equal(a, b)


def test_lanes_that_differ_are_not_stacked() -> None:
    lanes = make_lanes(2, by_loss("cross_entropy"))
    other = lanes[1].state.branch()
    name = next(iter(other.masks))
    other.masks[name] = ~other.masks[name]
    assert not can_stack(
        [lanes[0], Lane(other, *[getattr(lanes[1], f) for f in ("x", "y", "settings", "order", "rule")])]
    )
    late = lanes[1].state.branch()
    late.step = 3
    assert not can_stack(
        [lanes[0], Lane(late, *[getattr(lanes[1], f) for f in ("x", "y", "settings", "order", "rule")])]
    )
    assert not can_stack(lanes[:1]) and can_stack(lanes)


def test_a_loss_that_is_not_finite_is_named_with_its_step() -> None:
    lanes = make_lanes(2, by_loss("cross_entropy"))
    lanes[1].x.fill_(float("nan"))
    with pytest.raises(TrainingError, match="at step 0"):
        train_lanes(lanes, 3)


def test_copies_on_the_diagonal() -> None:
    """The repeated plan against the block matrix written out."""
    mask = torch.rand(7, 5, generator=torch.Generator().manual_seed(0)) < 0.4
    plan = stacked.make_plan(mask)
    repeated = stacked._repeat(plan, 3)
    values = torch.arange(1.0, 3 * len(plan.columns) + 1)
    expected = np.zeros((21, 15), np.float32)
    for k, part in enumerate(values.view(3, -1)):
        block = np.zeros(35, np.float32)
        block[plan.flat.numpy()] = part.numpy()
        expected[7 * k : 7 * k + 7, 5 * k : 5 * k + 5] = block.reshape(7, 5)
    np.testing.assert_array_equal(repeated.csr(values).to_dense().numpy(), expected)
    np.testing.assert_array_equal(repeated.csr_t(values).to_dense().numpy(), expected.T)
