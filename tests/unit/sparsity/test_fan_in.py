"""Constant fan-in: what every update, start and count keeps to, and what a naive update would do."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sctool.domain.config import validate_config
from sctool.sparsity.drop import DROPS
from sctool.sparsity.evidence import LayerEvidence
from sctool.sparsity.fan_in import largest_in_rows, random_rows, round_to_rows, update_rows
from sctool.sparsity.grow import GROWS

sides = st.one_of(
    st.tuples(st.integers(1, 20), st.integers(1, 30)),
    st.tuples(st.integers(1, 8), st.integers(1, 5), st.integers(1, 3), st.integers(1, 3)),
)


def evidence_of(shape: tuple[int, ...], fan_in: int, seed: int) -> LayerEvidence:
    generator = torch.Generator().manual_seed(seed)
    mask = random_rows({"w": shape}, {"w": fan_in * shape[0]}, generator)["w"]
    weight, gradient, momentum, members, others = (torch.randn(shape, generator=generator) for _ in range(5))
    return LayerEvidence(weight * mask, mask, gradient, momentum, mask.clone(), members, others)


@given(shapes=st.dictionaries(st.text("abc", min_size=1, max_size=3), sides, min_size=1), density=st.floats(0.001, 1.0))
def test_counts_are_shared_evenly_and_stay_near(shapes: dict[str, tuple[int, ...]], density: float) -> None:
    counts = {name: max(1, int(density * np.prod(shape))) for name, shape in shapes.items()}
    rounded = round_to_rows(shapes, counts)
    for name, shape in shapes.items():
        columns = int(np.prod(shape[1:]))
        assert rounded[name] % shape[0] == 0 and 1 <= rounded[name] // shape[0] <= columns
        assert abs(rounded[name] - counts[name]) <= shape[0]


@given(shape=sides, share=st.floats(0.0, 1.0), seed=st.integers(0, 1000))
def test_rows_begin_alike(shape: tuple[int, ...], share: float, seed: int) -> None:
    fan_in = max(1, int(share * np.prod(shape[1:])))
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    drawn = random_rows({"w": shape}, {"w": fan_in * shape[0]}, torch.Generator().manual_seed(seed))["w"]
    kept = largest_in_rows({"w": weight}, {"w": fan_in * shape[0]})["w"]
    for mask in (drawn, kept):
        assert mask.shape == shape and (mask.flatten(1).sum(1) == fan_in).all()
    size = weight.abs().flatten(1)
    rows = kept.flatten(1)
    assert (size.masked_fill(~rows, torch.inf).amin(1) >= size.masked_fill(rows, -torch.inf).amax(1)).all()


@settings(max_examples=60, deadline=None)
@given(
    shape=sides, share=st.floats(0.01, 1.0), fraction=st.floats(0.0, 1.0), drop=st.sampled_from(sorted(DROPS)),
    grow=st.sampled_from(sorted(GROWS)), seed=st.integers(0, 1000),
)  # fmt: skip
def test_an_update_keeps_every_row(
    shape: tuple[int, ...], share: float, fraction: float, drop: str, grow: str, seed: int
) -> None:
    fan_in = max(1, int(share * np.prod(shape[1:])))
    before = evidence_of(shape, fan_in, seed)
    mask, grown = update_rows(
        before, drop=drop, grow=grow, fraction=fraction, generator=torch.Generator().manual_seed(1)
    )
    assert mask.shape == grown.shape == shape and (mask.flatten(1).sum(1) == fan_in).all()
    assert not (grown & before.mask).any() and (grown <= mask).all()
    dropped = before.mask & ~mask
    assert (dropped.flatten(1).sum(1) == grown.flatten(1).sum(1)).all()
    assert int(dropped.sum()) <= int(fraction * int(before.mask.sum()))


@given(seed=st.integers(0, 1000), fraction=st.floats(0.0, 0.9))
@settings(max_examples=30, deadline=None)
def test_magnitude_and_gradient_against_a_naive_update(seed: int, fraction: float) -> None:
    """Weight by weight, with enough free positions in each row."""
    before = evidence_of((7, 40), 5, seed)
    mask, _ = update_rows(
        before, drop="magnitude", grow="gradient", fraction=fraction, generator=torch.Generator().manual_seed(1)
    )
    expected = before.mask.clone()
    places = sorted(before.mask.nonzero().tolist(), key=lambda place: float(before.weight[tuple(place)].abs()))
    for row, column in places[: int(fraction * len(places))]:
        free = [c for c in range(40) if not before.mask[row, c] and not expected[row, c]]
        expected[row, max(free, key=lambda c, row=row: float(before.gradient[row, c].abs()))] = True
        expected[row, column] = False
    assert torch.equal(mask, expected)


@pytest.mark.slow
@pytest.mark.parametrize("start", [{}, {"density_schedule": "gradual"}, {"start": "dense"}])
def test_a_search_ends_with_it(tmp_path_factory: pytest.TempPathFactory, start: dict[str, str]) -> None:
    from sctool.workflows.compress import compress
    from sctool.workflows.run_directory import MASKS, read_tensors

    folder = tmp_path_factory.mktemp("fan_in") / "run"
    short = {"rounds": 2, "warm_up_steps": 10, "steps_per_round": 10, "final_steps": 10, "dense_steps": 20,
             "candidates": ["magnitude/gradient"], "fan_in": "constant", **start}  # fmt: skip
    compress(validate_config({"compress": short}, where="test"), folder)
    masks = read_tensors(folder / MASKS).values()
    assert all(len(mask.flatten(1).sum(1).unique()) == 1 and mask.any() for mask in masks)
    assert not all(mask.all() for mask in masks)
