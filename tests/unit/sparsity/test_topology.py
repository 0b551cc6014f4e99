"""Selection in linear time against the stable sort that it stands for."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from sctool.sparsity.topology import find_lowest, magnitude_masks

SCORES = st.lists(
    st.sampled_from([0.0, -0.0, 1.0, -1.0, 0.5, torch.inf, -torch.inf]) | st.floats(-2, 2, width=32), min_size=1
)


def sort_lowest(scores: Tensor, count: int) -> Tensor:
    """The oracle."""
    chosen = torch.zeros(scores.numel(), dtype=torch.bool)
    chosen[scores.flatten().argsort(stable=True)[:count]] = True
    return chosen.view(scores.shape)


@given(SCORES, st.data())
def test_the_lowest_are_those_of_a_stable_sort(values: list[float], data: st.DataObject) -> None:
    scores = torch.tensor(values)
    count = data.draw(st.integers(0, len(values)))
    assert torch.equal(find_lowest(scores, count), sort_lowest(scores, count))


@given(SCORES, st.data())
def test_the_largest_weights_stay(values: list[float], data: st.DataObject) -> None:
    weight = torch.tensor(values)
    count = data.draw(st.integers(0, len(values)))
    mask = torch.zeros(len(values), dtype=torch.bool)
    mask[weight.abs().argsort(descending=True, stable=True)[:count]] = True
    assert torch.equal(magnitude_masks({"w": weight}, {"w": count})["w"], mask)


def test_what_is_no_number_goes_after_all_numbers_and_before_infinity() -> None:
    scores = torch.tensor([[torch.nan, 3.0], [torch.inf, -torch.inf]])
    assert find_lowest(scores, 2).tolist() == [[False, True], [False, True]]
    assert find_lowest(scores, 3).tolist() == [[True, True], [False, True]]
