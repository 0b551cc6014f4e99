"""Augmentations: what each does to the records, that labels follow the mixing, and that a step draws from its seed."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from sctool.errors import ConfigError
from sctool.sparsity.augment import AUGMENTATIONS, Batch, chain_augmentations
from sctool.sparsity.losses import LossSpec, make_cross_entropy, parse_loss
from sctool.sparsity.rules import Backpropagate, Distil
from sctool.sparsity.trainer import start_training

SHAPES = {"vectors": (12, 7), "series": (12, 3, 9), "images": (12, 3, 8, 6)}
FITS = {
    name: ("series", "images") if name == "shift" else ("images",) if name == "flip" else tuple(SHAPES)
    for name in AUGMENTATIONS
}
CASES = [(name, kind) for name, kinds in FITS.items() for kind in kinds]


def run(name: str, x: Tensor, strength: float | None = None, seed: int = 0) -> Batch:
    make, default = AUGMENTATIONS[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make(default if strength is None else strength)(x)


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_shape_and_input_stay_and_the_seed_decides(name: str, kind: str) -> None:
    x = torch.rand(SHAPES[kind]) + 1
    before = x.clone()
    one, same, other = run(name, x), run(name, x), run(name, x, seed=5)
    assert torch.equal(x, before) and one.x.shape == x.shape and 0 <= one.share <= 1
    assert torch.equal(one.x, same.x) and one.share == same.share
    assert not torch.equal(one.x, other.x)


@pytest.mark.parametrize(("name", "kind"), [case for case in CASES if case[0] != "mixup"])
def test_no_strength_changes_nothing(name: str, kind: str) -> None:
    x = torch.rand(SHAPES[kind])
    batch = run(name, x, 0.0)
    assert torch.equal(batch.x, x) and batch.share == 1.0


@given(st.integers(0, 2**30), st.sampled_from(list(SHAPES)), st.floats(0.2, 3))
@settings(max_examples=60, deadline=None)
def test_cutmix_takes_values_from_the_two_records_in_their_shares(seed: int, kind: str, alpha: float) -> None:
    x = torch.arange(math.prod(SHAPES[kind]), dtype=torch.float32).view(SHAPES[kind])
    batch = run("cutmix", x, alpha, seed)
    assert batch.partner is not None and sorted(batch.partner.tolist()) == list(range(len(x)))
    own, theirs = batch.x == x, batch.x == x[batch.partner]
    assert bool((own | theirs).all())
    moved = batch.partner != torch.arange(len(x))
    if kind != "vectors" and moved.any():
        assert own[moved].float().mean() == pytest.approx(batch.share, abs=1e-6)


def test_cutmix_of_vectors_keeps_the_share_on_average() -> None:
    x = torch.arange(200 * 500, dtype=torch.float32).view(200, 500)
    batch = run("cutmix", x)
    assert float((batch.x == x).float().mean()) == pytest.approx(batch.share, abs=0.02)


def test_mixup_is_the_weighted_mean() -> None:
    x = torch.rand(8, 5)
    batch = run("mixup", x)
    assert batch.partner is not None
    assert torch.allclose(batch.x, batch.share * x + (1 - batch.share) * x[batch.partner], atol=1e-6)


def test_erase_and_noise_have_their_strength() -> None:
    x = torch.ones(100, 400)
    erased = run("erase", x, 0.3).x
    assert set(erased.unique().tolist()) == {0.0, 1.0} and float(erased.mean()) == pytest.approx(0.7, abs=0.01)
    assert float((run("noise", x, 0.5).x - x).std()) == pytest.approx(0.5, abs=0.01)


@given(st.integers(0, 2**30), st.integers(1, 12))
@settings(max_examples=40, deadline=None)
def test_shift_moves_each_record_as_a_loop_does(seed: int, most: int) -> None:
    x = torch.rand(5, 2, 9) + 1
    moved = run("shift", x, float(most), seed).x
    for before, after in zip(x, moved, strict=True):
        fits = []
        for step in range(-most, most + 1):
            expected = torch.zeros_like(before)
            for place in range(9):
                if 0 <= place - step < 9:
                    expected[:, place] = before[:, place - step]
            fits.append(torch.equal(expected, after))
        assert any(fits)


def test_flip_turns_about_half_of_the_images_and_nothing_else() -> None:
    x = torch.rand(400, 1, 2, 3)
    batch = run("flip", x)
    turned = [torch.equal(after, before.flip(2)) for before, after in zip(x, batch.x, strict=True)]
    kept = [torch.equal(after, before) for before, after in zip(x, batch.x, strict=True)]
    assert all(a or b for a, b in zip(turned, kept, strict=True)) and 150 < sum(turned) < 250


@pytest.mark.parametrize(("name", "shape"), [("shift", (4, 5)), ("flip", (4, 5)), ("flip", (4, 2, 5))])
def test_records_of_a_wrong_shape_are_named(name: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match=rf"{name} needs .*shape \[{', '.join(map(str, shape[1:]))}\]"):
        run(name, torch.zeros(shape))


def test_a_chain_keeps_the_partner_and_runs_in_order() -> None:
    chain = chain_augmentations([lambda x: Batch(x + 1, 0.25, torch.tensor([1, 0])), lambda x: Batch(x * 10)])
    assert chain is not None
    batch = chain(torch.zeros(2, 1))
    assert batch.share == 0.25 and batch.partner is not None and batch.x.flatten().tolist() == [10.0, 10.0]
    assert chain_augmentations([]) is None


def make_parts() -> tuple[nn.Module, Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    return nn.Linear(4, 3), torch.rand(10, 4), torch.randint(0, 3, (10,)), torch.tensor([7, 2, 5])


def fixed(share: float) -> tuple[object, Tensor]:
    partner = torch.tensor([2, 0, 1])
    return (lambda x: Batch(share * x + (1 - share) * x[partner], share, partner)), partner


def test_labels_and_soft_labels_follow_the_shares() -> None:
    model, x, y, rows = make_parts()
    augment, partner = fixed(0.3)
    mixed = 0.3 * x[rows] + 0.7 * x[rows][partner]
    one_hot = functional.one_hot(y, 3).float()
    target = 0.3 * one_hot[rows] + 0.7 * one_hot[rows[partner]]
    found = Backpropagate(make_cross_entropy(0, 0), augment)(start_training(model, {}), x, y, rows, 0)  # type: ignore[arg-type]
    assert float(found) == pytest.approx(functional.cross_entropy(model(mixed), target).item(), abs=1e-6)
    teacher = torch.randn(10, 3)
    blend = 0.2 * one_hot + 0.8 * teacher.softmax(1)
    target = 0.3 * blend[rows] + 0.7 * blend[rows[partner]]
    found = Distil(teacher, 0.2, 1.0, augment)(start_training(model, {}), x, y, rows, 0)  # type: ignore[arg-type]
    assert float(found) == pytest.approx(functional.cross_entropy(model(mixed), target).item(), abs=1e-6)


@pytest.mark.parametrize(
    "text",
    [
        "relax", "relax:0.7", "soft:0.25+cutmix", "cross_entropy+shift:4+flip+weight_decay:0.002", "soft:0+mixup:0.2",
        "cross_entropy+noise:0.1234567891",
    ],
)  # fmt: skip
def test_a_loss_is_written_as_it_is_read(text: str) -> None:
    spec = parse_loss(text, where="w")
    assert parse_loss(str(spec), where="w") == spec
    assert str(spec) == text


def test_regularisers_of_a_loss() -> None:
    spec = parse_loss("soft:0.2+cutmix:0.5+weight_decay:0.01", where="w")
    assert spec == LossSpec("soft", 0.2, (("cutmix", 0.5), ("weight_decay", 0.01)))
    assert spec.weight_decay == 0.01 and spec.build_augmentation() is not None
    assert parse_loss("relax+weight_decay:0", where="w").weight_decay == 0.0
    plain = parse_loss("relax", where="w")
    assert plain.weight_decay is None and plain.build_augmentation() is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("relax+cutmx", "unknown regulariser 'cutmx'.*Did you mean 'cutmix'"),
        ("relax+cutmix+mixup", "two of one kind"),
        ("relax+erase+erase:0.2", "two of one kind"),
        ("relax+erase:-1", "is no strength"),
        ("relax+", "unknown regulariser ''"),
    ],
)
def test_a_wrong_regulariser_is_named(text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        parse_loss(text, where="w")
