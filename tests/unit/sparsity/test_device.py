"""Devices and precisions: named when absent, close to float32 where lower, the same on CUDA within tolerance."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sctool.errors import ConfigError
from sctool.sparsity.device import PRECISIONS, choose_device, place_model, place_records
from sctool.sparsity.losses import parse_loss
from sctool.sparsity.order import DataOrder
from sctool.sparsity.rules import Backpropagate
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

SETTINGS = TrainingSettings(0.05, 0.9, 5e-4, 60)


def train(device: str, precision: torch.dtype | None, loss: str = "cross_entropy+shift:1") -> TrainingState:
    """60 steps and one change of topology of a small CNN on blobs whose brightness is the class."""
    generator = torch.Generator().manual_seed(0)
    y = torch.randint(0, 2, (256,), generator=generator)
    x = torch.randn(256, 1, 8, 8, generator=generator) + 1.5 * y.view(-1, 1, 1, 1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2))
    place = torch.device(device)
    shapes = {name: tuple(p.shape) for name, p in model.named_parameters() if p.ndim > 1}
    counts = {name: torch.Size(shape).numel() // 2 for name, shape in shapes.items()}
    masks = random_masks(shapes, counts, torch.Generator().manual_seed(1))
    state = start_training(place_model(model, place), masks, precision)
    spec = parse_loss(loss, where="test")
    rule = Backpropagate(spec.build(), spec.build_augmentation())
    x, y = place_records(x, place), y.to(place)
    order = DataOrder(256, 32, 3)
    train_until(state, x, y, SETTINGS, 30, order, rule)
    gradients = RoundGradients(dense_gradients(state.model, x, y))
    change_topology(
        state, gradients, drop="magnitude", grow="gradient", fraction=0.3, generator=torch.Generator().manual_seed(2)
    )
    train_until(state, x, y, SETTINGS, 60, order, rule)
    state.model.eval()
    accuracy = float((state.model(x).argmax(1) == y).float().mean())
    assert accuracy > 0.9
    return state


def distance(one: TrainingState, other: TrainingState) -> float:
    pairs = zip(one.model.parameters(), other.model.parameters(), strict=True)
    return max(float((a.cpu() - b.cpu()).detach().abs().max()) for a, b in pairs)


@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float16])
def test_lower_precision_trains_close_to_float32_and_keeps_float32_weights(precision: torch.dtype) -> None:
    full, low = train("cpu", None), train("cpu", precision)
    assert all(parameter.dtype == torch.float32 for parameter in low.model.parameters())
    assert all(buffer.dtype == torch.float32 for buffer in low.momenta.values())
    assert 0 < distance(full, low) < 0.1
    for name, mask in low.masks.items():
        assert not dict(low.model.named_parameters())[name][~mask].any() and mask.sum() == full.masks[name].sum()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_ends_where_the_cpu_does() -> None:
    cpu, cuda = train("cpu", None), train("cuda", None)
    assert distance(cpu, cuda) < 1e-2
    assert all(torch.equal(cpu.masks[name], mask.cpu()) for name, mask in cuda.masks.items())


@pytest.mark.parametrize(
    ("name", "there"), [("cuda", torch.cuda.is_available()), ("mps", torch.backends.mps.is_available())]
)
def test_a_device_that_is_not_there_is_named(name: str, there: bool) -> None:
    if there:
        assert choose_device(name).type == name
        return
    with pytest.raises(ConfigError, match=rf"compress.device = '{name}'.*finds none.*\"auto\" or \"cpu\""):
        choose_device(name)


def test_auto_takes_what_is_there() -> None:
    expected = "cuda" if torch.cuda.is_available() else "cpu"
    assert choose_device("auto").type == choose_device(None).type == expected
    assert choose_device("cpu").type == "cpu" and set(PRECISIONS) == {"float32", "bfloat16", "float16"}
