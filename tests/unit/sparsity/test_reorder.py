"""Pooling before ReLU: the same bits, and only where the model reads its layers in turn."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from sctool.models.vision import SmallCnn
from sctool.sparsity.device import place_model
from sctool.sparsity.order import DataOrder
from sctool.sparsity.reorder import pool_before_relu
from sctool.sparsity.trainer import TrainingSettings, start_training, train_until


def make_model(seed: int = 0) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return place_model(SmallCnn((1, 12, 12), 3, channels=(4, 8), hidden=8), torch.device("cpu"))


def order_of(model: nn.Module) -> list[str]:
    return [type(layer).__name__ for module in model.modules() if isinstance(module, nn.Sequential) for layer in module]


def test_within_pooling_comes_first_and_after_all_is_as_it_was() -> None:
    model = make_model()
    before, names = order_of(model), list(model.state_dict())
    with pool_before_relu(model, torch.randn(2, 1, 12, 12)):
        within = order_of(model)
        assert list(model.state_dict()) == names
    assert [within[i : i + 2] for i, kind in enumerate(within) if kind == "MaxPool2d"] == [["MaxPool2d", "ReLU"]] * 2
    assert order_of(model) == before
    with pytest.raises(RuntimeError, match="stopped"), pool_before_relu(model, torch.randn(2, 1, 12, 12)):
        raise RuntimeError("stopped")
    assert order_of(model) == before


@given(seed=st.integers(0, 1000), window=st.sampled_from([(2, 2, 0), (3, 2, 1), (3, 1, 0)]))
def test_answers_and_gradients_are_the_same_bits(seed: int, window: tuple[int, int, int]) -> None:
    generator = torch.Generator().manual_seed(seed)
    model = nn.Sequential(nn.BatchNorm2d(3), nn.ReLU(), nn.MaxPool2d(window[0], window[1], padding=window[2]))
    # Whole numbers: ties within windows, and values that are zero.
    x = torch.randint(-2, 3, (4, 3, 9, 9), generator=generator).float()
    found = []
    for swapped in (False, True):
        own, leaf = copy.deepcopy(model), x.clone().requires_grad_()
        if swapped:
            with pool_before_relu(own, x):
                assert isinstance(own[1], nn.MaxPool2d)
                y = own(leaf)
        else:
            y = own(leaf)
        weights = torch.randn(y.shape, generator=torch.Generator().manual_seed(seed))
        found.append((y.detach(), *torch.autograd.grad((y * weights).sum(), [leaf, *own.parameters()])))
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


def test_training_is_the_same_to_the_bit() -> None:
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(64, 1, 12, 12, generator=generator), torch.arange(64) % 3
    trained = []
    for hooked in (False, True):
        model = make_model()
        if hooked:  # layers with hooks stay where they are
            for layer in model.modules():
                layer.register_forward_hook(lambda *_: None)
        state = start_training(model, {})
        train_until(state, x, y, TrainingSettings(0.1, 0.9, 1e-3, 20), 20, DataOrder(64, 16, 0))
        trained.append(state.model.state_dict())
    assert all(torch.equal(trained[0][name], trained[1][name]) for name in trained[0])


class Skips(nn.Module):
    """Reads the layers of its Sequential by number."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))

    def forward(self, x: Tensor) -> Tensor:
        early: Tensor = self.features[:2](x).mean((2, 3))
        late: Tensor = self.features(x).mean((2, 3))
        return early + late


class Breaks(Skips):
    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.features[:2](x)
        return self.features[2](y + x)


@pytest.mark.parametrize("kind", [Skips, Breaks])
def test_a_model_that_reads_its_layers_otherwise_stays_as_it_is(kind: type[nn.Module]) -> None:
    model = kind()
    with pool_before_relu(model, torch.randn(2, 1, 8, 8)):
        assert order_of(model) == ["Conv2d", "ReLU", "MaxPool2d"]
    assert order_of(model) == ["Conv2d", "ReLU", "MaxPool2d"]
