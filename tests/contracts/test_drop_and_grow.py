"""What every drop x grow pair keeps to."""

from __future__ import annotations

import dataclasses
import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sctool.sparsity.drop import DROPS, THRESHOLD
from sctool.sparsity.evidence import LayerEvidence
from sctool.sparsity.grow import GROWS
from sctool.sparsity.topology import magnitude_masks, random_masks, update_topology

PAIRS = list(itertools.product(DROPS, GROWS))


def make_layer(seed: int, size: int, kept: int) -> LayerEvidence:
    """Random evidence of a flat layer, weights outside the mask zero."""
    generator = torch.Generator().manual_seed(seed)
    mask = random_masks({"w": (size,)}, {"w": kept}, generator)["w"]
    weight, gradient, momentum, members, others = (torch.randn(size, generator=generator) for _ in range(5))
    fired = mask | (torch.rand(size, generator=generator) < 0.3)
    return LayerEvidence(weight * mask, mask, gradient, momentum * mask + gradient, fired, members, others)


def update(layer: LayerEvidence, drop: str, grow: str, fraction: float, seed: int = 0) -> tuple[Tensor, Tensor]:
    return update_topology(
        layer, drop=drop, grow=grow, fraction=fraction, generator=torch.Generator().manual_seed(seed)
    )


@pytest.mark.parametrize(("drop", "grow"), PAIRS)
@settings(max_examples=25)
@given(data=st.data())
def test_counts_stay_and_nothing_returns_at_once(drop: str, grow: str, data: st.DataObject) -> None:
    size = data.draw(st.integers(1, 80))
    kept = data.draw(st.integers(1, size))
    layer = make_layer(data.draw(st.integers(0, 999)), size, kept)
    fraction = data.draw(st.floats(0, 1))
    before = {name: tensor.clone() for name, tensor in vars(layer).items()}
    new, grown = update(layer, drop, grow, fraction)
    moved = min(int(fraction * kept), size - kept)
    if drop == "threshold":
        moved = min(moved, int((layer.mask & (layer.weight.abs() < THRESHOLD)).sum()))
    assert new.dtype == torch.bool and int(new.sum()) == kept
    assert int(grown.sum()) == moved == int((layer.mask & ~new).sum())
    assert not bool((grown & layer.mask).any())
    assert all(torch.equal(before[name], tensor) for name, tensor in vars(layer).items())


@pytest.mark.parametrize(("drop", "grow"), PAIRS)
def test_same_generator_same_masks(drop: str, grow: str) -> None:
    layer = make_layer(1, 200, 40)
    assert torch.equal(update(layer, drop, grow, 0.3, seed=5)[0], update(layer, drop, grow, 0.3, seed=5)[0])


@pytest.mark.parametrize(("drop", "grow"), PAIRS)
def test_the_order_in_memory_changes_nothing(drop: str, grow: str) -> None:
    plain = make_layer(1, 8 * 6 * 3 * 3, 90)
    layer = LayerEvidence(**{name: tensor.view(8, 6, 3, 3) for name, tensor in vars(plain).items()})
    last = {name: tensor.to(memory_format=torch.channels_last) for name, tensor in vars(layer).items()}
    for expected, found in zip(
        update(plain, drop, grow, 0.3), update(LayerEvidence(**last), drop, grow, 0.3), strict=True
    ):
        assert torch.equal(found.flatten(), expected)


def dropped_of(layer: LayerEvidence, drop: str, fraction: float) -> set[int]:
    new, _ = update(layer, drop, "gradient", fraction)
    return set(torch.nonzero(layer.mask & ~new).flatten().tolist())


@pytest.mark.parametrize("drop", ["magnitude", "taylor"])
def test_drops_the_lowest_of_the_criterion(drop: str) -> None:
    layer = make_layer(3, 300, 60)
    value = layer.weight if drop == "magnitude" else layer.weight * layer.gradient
    rows = sorted((i for i in range(300) if layer.mask[i]), key=lambda i: abs(float(value[i])))
    assert dropped_of(layer, drop, 0.25) == set(rows[:15])


def test_threshold_drops_only_what_is_under_it() -> None:
    layer = make_layer(3, 300, 60)
    small = torch.nonzero(layer.mask).flatten()[:4]
    layer.weight[small] = torch.tensor([1e-4, -2e-4, 0.0, 9e-4])
    assert dropped_of(layer, "threshold", 0.5) == set(small.tolist())
    assert dropped_of(layer, "threshold", 0.05) == {int(small[0]), int(small[1]), int(small[2])}


def test_set_takes_its_share_of_each_sign() -> None:
    """At low density too, where absent positions outnumber the existing ones."""
    layer = make_layer(4, 2000, 200)
    new, _ = update(layer, "set", "random", 0.3)
    gone = layer.mask & ~new
    for existing in (layer.mask & (layer.weight > 0), layer.mask & (layer.weight < 0)):
        dropped, stayed = layer.weight[gone & existing].abs(), layer.weight[existing & ~gone].abs()
        assert abs(len(dropped) - 0.3 * int(existing.sum())) <= 1
        assert dropped.max() <= stayed.min()


def test_safety_prefers_weights_that_hold_the_gap() -> None:
    """Of weights of one size, those whose removal lowers loss(non-members) - loss(members) most go first."""
    layer = make_layer(6, 100, 50)
    layer.weight[layer.mask] = torch.where(layer.weight[layer.mask] > 0, 0.5, -0.5)
    assert layer.member_gradient is not None and layer.non_member_gradient is not None
    reduction = layer.weight * (layer.non_member_gradient - layer.member_gradient)
    gone = dropped_of(layer, "safety", 0.2)
    kept = set(torch.nonzero(layer.mask).flatten().tolist()) - gone
    assert float(reduction[list(gone)].mean()) > float(reduction[list(kept)].mean())


@pytest.mark.parametrize("grow", ["gradient", "momentum"])
def test_grows_the_highest_of_the_criterion(grow: str) -> None:
    layer = make_layer(5, 300, 60)
    _, grown = update(layer, "magnitude", grow, 0.5)
    values = (layer.gradient if grow == "gradient" else layer.momentum).abs()
    absent = sorted((i for i in range(300) if not layer.mask[i]), key=lambda i: -float(values[i]))
    assert set(torch.nonzero(grown).flatten().tolist()) == set(absent[:30])


def test_unfired_positions_come_first() -> None:
    layer = make_layer(7, 300, 60)
    _, grown = update(layer, "magnitude", "unfired", 0.5)
    assert not bool((grown & layer.fired).any())


def test_safety_grows_where_both_sides_gain() -> None:
    layer = make_layer(8, 400, 60)
    _, grown = update(layer, "magnitude", "safety", 0.5)
    assert layer.member_gradient is not None and layer.non_member_gradient is not None
    assert bool((layer.member_gradient[grown].sign() == layer.non_member_gradient[grown].sign()).all())


@pytest.mark.parametrize(("drop", "grow"), [("safety", "random"), ("magnitude", "safety")])
def test_safety_without_its_gradients_is_refused(drop: str, grow: str) -> None:
    layer = dataclasses.replace(make_layer(9, 50, 20), member_gradient=None)
    with pytest.raises(ValueError, match="member_gradient"):
        update(layer, drop, grow, 0.5)


def test_magnitude_masks_keep_the_largest_and_break_ties_by_index() -> None:
    masks = magnitude_masks({"w": torch.tensor([[1.0, -3.0], [1.0, 0.5]])}, {"w": 2})
    assert masks["w"].tolist() == [[True, True], [False, False]]
