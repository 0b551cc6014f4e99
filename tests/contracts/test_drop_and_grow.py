"""What every drop x grow pair keeps to."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sctool.sparsity.drop import DROPS
from sctool.sparsity.grow import GROWS
from sctool.sparsity.topology import magnitude_masks, random_masks, update_topology

PAIRS = list(itertools.product(DROPS, GROWS))


def make_layer(seed: int, size: int, kept: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(weight, mask, gradient, momentum), weights outside the mask zero."""
    generator = torch.Generator().manual_seed(seed)
    mask = random_masks({"w": (size,)}, {"w": kept}, generator)["w"]
    weight, gradient, momentum = (torch.randn(size, generator=generator) for _ in range(3))
    return weight * mask, mask, gradient, momentum * mask


@pytest.mark.parametrize(("drop", "grow"), PAIRS)
@settings(max_examples=40)
@given(data=st.data())
def test_counts_stay_and_nothing_returns_at_once(drop: str, grow: str, data: st.DataObject) -> None:
    size = data.draw(st.integers(1, 80))
    kept = data.draw(st.integers(1, size))
    weight, mask, gradient, momentum = make_layer(data.draw(st.integers(0, 999)), size, kept)
    fraction = data.draw(st.floats(0, 1))
    inputs = [tensor.clone() for tensor in (weight, mask, gradient, momentum)]
    new, grown = update_topology(
        weight, mask, gradient, momentum, drop=drop, grow=grow, fraction=fraction,
        generator=torch.Generator().manual_seed(0),
    )  # fmt: skip
    moved = min(int(fraction * kept), size - kept)
    assert new.dtype == torch.bool and int(new.sum()) == kept
    assert int(grown.sum()) == moved == int((mask & ~new).sum())
    assert not bool((grown & mask).any())
    for before, after in zip(inputs, (weight, mask, gradient, momentum), strict=True):
        assert torch.equal(before, after)


@pytest.mark.parametrize(("drop", "grow"), PAIRS)
def test_same_generator_same_masks(drop: str, grow: str) -> None:
    weight, mask, gradient, momentum = make_layer(1, 200, 40)
    first, second = (
        update_topology(weight, mask, gradient, momentum, drop=drop, grow=grow, fraction=0.3,
                        generator=torch.Generator().manual_seed(5))[0]
        for _ in range(2)
    )  # fmt: skip
    assert torch.equal(first, second)


def _drop_naively(drop: str, weight: Tensor, mask: Tensor, gradient: Tensor, count: int) -> set[int]:
    rows = [i for i in range(len(weight)) if mask[i]]
    if drop == "magnitude":
        return set(sorted(rows, key=lambda i: abs(float(weight[i])))[:count])
    return set(sorted(rows, key=lambda i: abs(float(weight[i] * gradient[i])))[:count])


@pytest.mark.parametrize("drop", ["magnitude", "taylor"])
def test_drops_the_lowest_of_the_criterion(drop: str) -> None:
    weight, mask, gradient, momentum = make_layer(3, 300, 60)
    new, _ = update_topology(
        weight, mask, gradient, momentum, drop=drop, grow="gradient", fraction=0.25,
        generator=torch.Generator().manual_seed(0),
    )  # fmt: skip
    assert set(torch.nonzero(mask & ~new).flatten().tolist()) == _drop_naively(drop, weight, mask, gradient, 15)


def test_set_takes_its_share_of_each_sign() -> None:
    """At low density too, where absent positions outnumber the existing ones."""
    weight, mask, gradient, momentum = make_layer(4, 2000, 200)
    new, _ = update_topology(
        weight, mask, gradient, momentum, drop="set", grow="random", fraction=0.3,
        generator=torch.Generator().manual_seed(0),
    )  # fmt: skip
    gone = mask & ~new
    for existing in (mask & (weight > 0), mask & (weight < 0)):
        dropped, stayed = weight[gone & existing].abs(), weight[existing & ~gone].abs()
        assert abs(len(dropped) - 0.3 * int(existing.sum())) <= 1
        assert dropped.max() <= stayed.min()


@pytest.mark.parametrize(("grow", "score"), [("gradient", 2), ("momentum", 3)])
def test_grows_the_highest_of_the_criterion(grow: str, score: int) -> None:
    layer = make_layer(5, 300, 60)
    dense_momentum = layer[3] + layer[2]
    _, grown = update_topology(
        layer[0], layer[1], layer[2], dense_momentum, drop="magnitude", grow=grow, fraction=0.5,
        generator=torch.Generator().manual_seed(0),
    )  # fmt: skip
    values = (layer[2] if score == 2 else dense_momentum).abs()
    absent = sorted((i for i in range(300) if not layer[1][i]), key=lambda i: -float(values[i]))
    assert set(torch.nonzero(grown).flatten().tolist()) == set(absent[:30])


def test_magnitude_masks_keep_the_largest_and_break_ties_by_index() -> None:
    masks = magnitude_masks({"w": torch.tensor([[1.0, -3.0], [1.0, 0.5]])}, {"w": 2})
    assert masks["w"].tolist() == [[True, True], [False, False]]
