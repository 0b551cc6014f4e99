"""Each loss against a loop over records that follows its paper, and what all of them must bear."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.func import grad, vmap
from torch.nn import functional

from sctool.errors import ConfigError
from sctool.sparsity.losses import LOSSES, LossSpec, parse_loss
from sctool.sparsity.order import DataOrder
from sctool.sparsity.rules import Backpropagate
from sctool.sparsity.trainer import TrainingSettings, start_training, train_until

Oracle = Callable[[list[list[float]], list[int], float, float, int], float]


def softmax(row: list[float]) -> list[float]:
    total = math.fsum(math.exp(value) for value in row)
    return [math.exp(value) / total for value in row]


def smoothed(row: list[float], label: int, smoothing: float) -> float:
    """Cross-entropy with (1 - s) one-hot + s / C."""
    return -sum(
        ((1 - smoothing) * (index == label) + smoothing / len(row)) * math.log(p)
        for index, p in enumerate(softmax(row))
    )


def entropy(row: list[float]) -> float:
    return -sum(p * math.log(p) for p in softmax(row))


def is_right(row: list[float], label: int) -> bool:
    return row.index(max(row)) == label


def penalised(counts: Callable[[list[float], int], bool]) -> Oracle:
    def mean(rows: list[list[float]], labels: list[int], strength: float, smoothing: float, epoch: int) -> float:
        each = [
            smoothed(row, label, smoothing) - strength * entropy(row) * counts(row, label)
            for row, label in zip(rows, labels, strict=True)
        ]
        return sum(each) / len(each)

    return mean


def uniform(rows: list[list[float]], labels: list[int], strength: float, smoothing: float, epoch: int) -> float:
    total = 0.0
    for row, label in zip(rows, labels, strict=True):
        classes = len(row)
        divergence = sum(math.log(1 / classes / p) / classes for p in softmax(row))
        total += smoothed(row, label, smoothing) + strength * divergence
    return total / len(rows)


def relax(rows: list[list[float]], labels: list[int], alpha: float, smoothing: float, epoch: int) -> float:
    """RelaxLoss, algorithm 1."""
    each = [smoothed(row, label, smoothing) for row, label in zip(rows, labels, strict=True)]
    mean = sum(each) / len(each)
    if epoch % 2 == 0:
        return abs(mean - alpha)
    if mean > alpha:
        return mean
    total = 0.0
    for row, label, own in zip(rows, labels, each, strict=True):
        total -= own
        if not is_right(row, label):
            p = softmax(row)
            soft = [p[label] if c == label else (1 - p[label]) / (len(row) - 1) for c in range(len(row))]
            total -= sum(t * math.log(q) for t, q in zip(soft, p, strict=True))
    return total / len(rows)


ORACLES: dict[str, Oracle] = {
    "cross_entropy": penalised(lambda row, label: False),
    "confidence_penalty": penalised(lambda row, label: True),
    "entropy_correct": penalised(is_right),
    "entropy_errors": penalised(lambda row, label: not is_right(row, label)),
    "uniform": uniform,
    "relax": relax,
}


def make_batch(seed: int, scale: float = 2.0, records: int = 9, classes: int = 4) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(records, classes, generator=generator, dtype=torch.float64) * scale
    return logits, torch.randint(classes, (records,), generator=generator)


def test_every_loss_has_an_oracle() -> None:
    assert ORACLES.keys() == LOSSES.keys()


@pytest.mark.parametrize("name", LOSSES)
@settings(max_examples=25, deadline=None)
@given(st.integers(0, 999), st.floats(0, 3), st.sampled_from([0.0, 0.1]), st.integers(0, 3), st.floats(0.1, 6))
def test_each_is_the_mean_over_records(
    name: str, seed: int, strength: float, smoothing: float, epoch: int, scale: float
) -> None:
    logits, y = make_batch(seed, scale)
    found = LossSpec(name, strength).build(smoothing)(logits, y, epoch)
    expected = ORACLES[name](logits.tolist(), y.tolist(), strength, smoothing, epoch)
    assert found.shape == () and float(found) == pytest.approx(expected, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("epoch", [0, 1])
@pytest.mark.parametrize("alpha", [0.1, 1e6])
def test_gradients_stay_finite_for_extreme_logits(name: str, epoch: int, alpha: float) -> None:
    values = [-1e4, -1.0, 0.0, 1.0, 1e4]
    logits = torch.cartesian_prod(*(torch.tensor(values),) * 3).requires_grad_()
    for label in range(3):
        y = torch.full((len(logits),), label)
        value = LossSpec(name, alpha).build()(logits, y, epoch)
        (gradient,) = torch.autograd.grad(value, logits)
        assert torch.isfinite(value) and torch.isfinite(gradient).all()


def test_errors_alone_are_penalised_and_without_errors_nothing_is() -> None:
    logits, y = make_batch(3)
    plain, penalty = LossSpec("cross_entropy", 0.0).build(), LossSpec("entropy_errors", 0.7).build()
    best = logits.argmax(1)
    assert torch.equal(penalty(logits, best, 0), plain(logits, best, 0))
    assert penalty(logits, y, 0) < plain(logits, y, 0)
    correct = LossSpec("entropy_correct", 0.7).build()
    wrong = (best + 1) % 4
    assert torch.equal(correct(logits, wrong, 0), plain(logits, wrong, 0))
    assert correct(logits, best, 0) < plain(logits, best, 0)


@pytest.mark.parametrize("name", ["confidence_penalty", "entropy_correct", "entropy_errors", "uniform"])
def test_penalties_push_away_from_certainty(name: str) -> None:
    """One step against the gradient of the penalty alone raises the entropy of the records that it works on."""
    logits, y = make_batch(5)
    y = logits.argmax(1) if name == "entropy_correct" else (logits.argmax(1) + 1) % 4 if name == "entropy_errors" else y
    with_it, without = LossSpec(name, 1.0).build(), LossSpec(name, 0.0).build()
    push = grad(lambda z: with_it(z, y, 0) - without(z, y, 0))(logits)

    def mean_entropy(z: Tensor) -> float:
        return float(-(z.softmax(1) * z.log_softmax(1)).sum(1).mean())

    assert mean_entropy(logits - 0.01 * push) > mean_entropy(logits)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("epoch", [0, 1])
def test_all_may_be_batched_over_stacked_models(name: str, epoch: int) -> None:
    """Losses and gradients under vmap are those of one model after another, on both sides of relax's alpha."""
    loss = LossSpec(name, 1.0).build(0.05)
    batches = [make_batch(seed, scale)[0] for seed, scale in enumerate((0.1, 1.0, 9.0))]
    y = batches[0].argmax(1)
    stacked = torch.stack([batches[0] * 90, *batches])
    if name == "relax":
        means = [float(functional.cross_entropy(z, y, label_smoothing=0.05)) for z in stacked]
        assert min(means) < 1.0 < max(means)
    values = vmap(lambda z: loss(z, y, epoch))(stacked)
    slopes = vmap(grad(lambda z: loss(z, y, epoch)))(stacked)
    for index, logits in enumerate(stacked):
        torch.testing.assert_close(values[index], loss(logits, y, epoch))
        torch.testing.assert_close(slopes[index], grad(lambda z: loss(z, y, epoch))(logits))


@pytest.mark.parametrize("alpha", [0.3, 0.8])
def test_relax_keeps_the_training_loss_near_alpha(alpha: float) -> None:
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(128, 10, generator=generator), torch.randint(4, (128,), generator=generator)
    ends = {}
    for name in ("cross_entropy", f"relax:{alpha}"):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            state = start_training(nn.Sequential(nn.Linear(10, 128), nn.ReLU(), nn.Linear(128, 4)), {})
        rule = Backpropagate(parse_loss(name, where="test").build())
        order, seen = DataOrder(128, 32, 1), []
        plan = TrainingSettings(0.05, 0.9, 0.0, 800)
        for end in range(600, 801, 10):
            train_until(state, x, y, plan, end, order, rule)
            with torch.no_grad():
                seen.append(float(functional.cross_entropy(state.model(x), y)))
        ends[name] = sum(seen) / len(seen)
    assert ends["cross_entropy"] < 0.1
    assert ends[f"relax:{alpha}"] == pytest.approx(alpha, rel=0.25)


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_by_name_has_its_default_and_prints_as_written(name: str) -> None:
    spec = parse_loss(name, where="test")
    assert spec == LossSpec(name, LOSSES[name][1]) and str(spec) == name
    assert str(parse_loss(f"{name}:0.25", where="test")) == f"{name}:0.25"
    assert parse_loss(f"{name}:1e-2", where="test").strength == 0.01


def test_an_unknown_loss_is_named_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"defences\[1\]: unknown loss 'relaxx' in 'relaxx:1'.*mean 'relax'"):
        parse_loss("relaxx:1", where="defences[1]")
    with pytest.raises(ConfigError, match=r"Valid: .*cross_entropy"):
        parse_loss("", where="test")


@pytest.mark.parametrize("strength", ["", "x", "-0.1", "nan", "inf", "1:2"])
def test_a_bad_strength_is_refused(strength: str) -> None:
    with pytest.raises(ConfigError, match=r"test: .* is no strength\. Write name:number"):
        parse_loss(f"uniform:{strength}", where="test")
