"""DP-SGD against a loop over records, its noise against statistics, and the accountant against integrals and papers."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import logsumexp
from torch import Tensor, nn
from torch.nn import functional

from sctool.errors import ConfigError, TrainingError
from sctool.sparsity import private
from sctool.sparsity.accountant import ORDERS, epsilon, noise_for, renyi_divergence
from sctool.sparsity.ghost import sum_clipped
from sctool.sparsity.losses import LOSSES, parse_loss
from sctool.sparsity.order import DataOrder
from sctool.sparsity.private import PoissonOrder, PrivateGradient
from sctool.sparsity.topology import random_masks
from sctool.sparsity.trainer import TrainingSettings, TrainingState, start_training, train_until

SETTINGS = TrainingSettings(0.1, 0.9, 1e-3, 40, noise_seed=7)
ROWS = torch.arange(10)


def make_data() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(64, 8, generator=generator)
    return x, (x[:, 0] > 0).long()


def make_state(*middle: nn.Module, density: float = 0.5) -> TrainingState:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(8, 16), *middle, nn.ReLU(), nn.Linear(16, 3))
    names = ["0.weight", f"{len(model) - 1}.weight"]
    shapes = {name: tuple(dict(model.named_parameters())[name].shape) for name in names}
    counts = {name: max(1, int(density * math.prod(shape))) for name, shape in shapes.items()}
    return start_training(model, random_masks(shapes, counts, torch.Generator().manual_seed(1)))


def gradients(rule: PrivateGradient, state: TrainingState, rows: Tensor, seed: int = 0) -> dict[str, Tensor]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        rule(state, *make_data(), rows, 0)
    return {name: p.grad.clone() for name, p in state.model.named_parameters()}  # type: ignore[union-attr]


def loop_oracle(state: TrainingState, rows: Tensor, clip: float) -> tuple[dict[str, Tensor], list[float]]:
    """One record at a time through autograd: what Abadi et al. write down."""
    x, y = make_data()
    model = copy.deepcopy(state.model)
    total = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    norms = []
    for row in rows.tolist():
        model.zero_grad()
        functional.cross_entropy(model(x[row : row + 1]), y[row : row + 1]).backward()
        own = {n: p.grad * state.masks[n] if n in state.masks else p.grad for n, p in model.named_parameters()}
        norms.append(math.sqrt(sum(float((g**2).sum()) for g in own.values())))
        for name, gradient in own.items():
            total[name] += gradient * min(1.0, clip / norms[-1])
    return {name: value / len(rows) for name, value in total.items()}, norms


@pytest.mark.parametrize("clip", [0.5, 3.0, 100.0])
def test_clipping_is_the_loop_over_records_whatever_the_chunks(clip: float) -> None:
    state = make_state(nn.GroupNorm(4, 16))
    expected, norms = loop_oracle(state, ROWS, clip)
    if clip == 3.0:
        assert min(norms) < clip < max(norms)
    for memory in (1, 4000, 2**28):
        found = gradients(PrivateGradient(clip, 0.0, memory=memory), state, ROWS)
        for name, gradient in expected.items():
            torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-6)


def test_convolutions_too() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Unflatten(1, (1, 8)), nn.Conv1d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(24, 2))
    state = start_training(model, {})
    expected, _ = loop_oracle(state, ROWS, 0.7)
    found = gradients(PrivateGradient(0.7, 0.0), state, ROWS)
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-6)


def test_one_record_moves_the_sum_by_at_most_the_clip() -> None:
    state, rule = make_state(), PrivateGradient(0.3, 0.0, expected_batch=1.0)
    with_it, without = gradients(rule, state, ROWS), gradients(rule, state, ROWS[1:])
    assert math.sqrt(sum(float(((with_it[n] - without[n]) ** 2).sum()) for n in with_it)) <= 0.3 + 1e-5


def test_noise_has_its_variance_where_the_mask_is_true_and_none_elsewhere() -> None:
    state, size = make_state(), 8.0
    clean = gradients(PrivateGradient(0.5, 0.0, expected_batch=size), state, ROWS)
    rule, draws = PrivateGradient(0.5, 3.0, expected_batch=size), []
    for seed in range(40):
        noisy = gradients(rule, state, ROWS, seed)
        for name, gradient in noisy.items():
            mask = state.masks.get(name, torch.ones_like(gradient, dtype=torch.bool))
            assert not gradient[~mask].any() and not torch.signbit(gradient[~mask]).any()
            draws.append((gradient - clean[name])[mask] * size / (0.5 * 3.0))
    pooled = torch.cat(draws)
    assert len(pooled) > 4000
    assert abs(float(pooled.mean())) < 4 / math.sqrt(len(pooled))
    assert abs(float(pooled.var()) - 1) < 4 * math.sqrt(2 / len(pooled))


def test_noise_differs_from_step_to_step_and_follows_from_the_step() -> None:
    rule, state = PrivateGradient(1.0, 1.0), make_state()
    first, again, other = (gradients(rule, state, ROWS, seed) for seed in (3, 3, 4))
    assert all(torch.equal(first[n], again[n]) and not torch.equal(first[n], other[n]) for n in first)


def test_an_empty_batch_is_noise_alone() -> None:
    found = gradients(PrivateGradient(1.0, 1.0, expected_batch=4.0), make_state(), ROWS[:0])
    assert all(float(g.abs().sum()) > 0 for g in found.values())
    found = gradients(PrivateGradient(1.0, 0.0), make_state(), ROWS[:0])
    assert not any(g.any() for g in found.values())


@pytest.mark.parametrize("layer", [nn.BatchNorm1d(16), nn.Sequential(nn.BatchNorm1d(16, track_running_stats=False))])
def test_batch_norm_is_refused_by_name(layer: nn.Module) -> None:
    with pytest.raises(TrainingError, match=r"cannot train 1(\.0)? \(BatchNorm1d\).*GroupNorm"):
        train_until(make_state(layer), *make_data(), SETTINGS, 1, DataOrder(64, 16, 0), PrivateGradient(1.0, 1.0))


def test_bad_settings_are_refused() -> None:
    for clip, noise in [(0.0, 1.0), (math.nan, 1.0), (1.0, -1.0), (1.0, math.inf)]:
        with pytest.raises(ConfigError, match="clip above 0"):
            PrivateGradient(clip, noise)


def test_dropout_draws_anew_for_each_record() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Dropout(0.5), nn.Linear(8, 2, bias=False))
    state = start_training(model, {})
    x, y = torch.ones(64, 8), torch.zeros(64, dtype=torch.int64)
    PrivateGradient(1e6, 0.0)(state, x, y, torch.arange(64), 0)
    columns = state.model[1].weight.grad[0]  # type: ignore[index, union-attr]
    assert len(set(columns.tolist())) > 4  # with one draw for all records, a column is either full or zero


@pytest.mark.parametrize("order", [DataOrder(64, 16, 2), PoissonOrder(64, 3, 2)])
def test_training_in_slices_is_training_in_one_go(order: DataOrder) -> None:
    rule = PrivateGradient(1.0, 0.8, expected_batch=16.0)
    one, other = make_state(nn.Dropout(0.3)), make_state(nn.Dropout(0.3))
    train_until(one, *make_data(), SETTINGS, 13, order, rule)
    for end in (1, 5, 13):
        torch.rand(end)
        other = other.branch()
        train_until(other, *make_data(), SETTINGS, end, order, rule)
    for name, value in one.model.state_dict().items():
        assert torch.equal(value, other.model.state_dict()[name]), name


def test_private_training_learns() -> None:
    x, y = make_data()
    state, order = make_state(), PoissonOrder(64, 32, 0)
    settings_ = TrainingSettings(0.3, 0.9, 0.0, 120)
    train_until(state, x, y, settings_, 120, order, PrivateGradient(1.0, 0.5, expected_batch=order.expected_batch))
    assert float((state.model(x).argmax(1) == y).float().mean()) > 0.8


@pytest.mark.parametrize("name", LOSSES)
def test_any_loss_may_be_made_private(name: str) -> None:
    found = gradients(PrivateGradient(1.0, 0.0, loss=parse_loss(name, where="test").build()), make_state(), ROWS)
    assert all(torch.isfinite(g).all() for g in found.values())


@settings(max_examples=30)
@given(st.integers(1, 300), st.integers(1, 64), st.integers(0, 99))
def test_poisson_batches_follow_from_the_step(records: int, size: int, seed: int) -> None:
    order = PoissonOrder(records, size, seed)
    batches = [order.rows(step) for step in range(4)]
    assert all(len(set(b.tolist())) == len(b) and (len(b) == 0 or int(b.max()) < records) for b in batches)
    assert all(torch.equal(PoissonOrder(records, size, seed).rows(step), b) for step, b in enumerate(batches))
    assert order.expected_batch == pytest.approx(min(size, records))


def test_poisson_batches_are_binomial_and_records_independent() -> None:
    order = PoissonOrder(100, 10, 5)
    taken = torch.zeros(2000, 100)
    for step in range(2000):
        taken[step, order.rows(step)] = 1
    sizes = taken.sum(1)
    assert abs(float(sizes.mean()) - 10) < 4 * math.sqrt(9 / 2000)
    assert abs(float(sizes.var()) - 9) < 4 * 9 * math.sqrt(2 / 2000)
    assert float((taken.mean(0) - 0.1).abs().max()) < 5 * math.sqrt(0.09 / 2000)
    assert order.steps_per_epoch == 10


@pytest.mark.parametrize("noise", [0.3, 0.8, 1.1, 4.0, 30.0])
@pytest.mark.parametrize("rate", [1e-4, 0.004, 0.1, 0.6, 0.99])
def test_divergence_is_the_integral(noise: float, rate: float) -> None:
    """The trapezoid rule on the definition, for fractional and integer orders."""
    for order in (1.1, 1.9, 2.0, 5.7, 32.0, 200.0):
        width = min(noise, noise**2) / 25
        z = np.arange(-14 * noise, order + 14 * noise, width)
        ratio = np.logaddexp(math.log1p(-rate), math.log(rate) + (2 * z - 1) / (2 * noise**2))
        density = -(z**2) / (2 * noise**2) - 0.5 * math.log(2 * math.pi * noise**2)
        integral = (logsumexp(density + order * ratio) + math.log(width)) / (order - 1)
        assert renyi_divergence(noise, rate, order) == pytest.approx(integral, rel=1e-7, abs=1e-9)


PUBLISHED = [
    (1.3, 256 / 60000, 3516, 1.19),  # the MNIST tutorials of TensorFlow Privacy: 15, 60 and 45 epochs
    (1.1, 256 / 60000, 14063, 3.01),
    (0.7, 256 / 60000, 10547, 7.10),
    (4.0, 0.01, 10000, 1.26),  # Abadi et al. 2016, section 3.2
]


@pytest.mark.parametrize(("noise", "rate", "steps", "expected"), PUBLISHED)
def test_published_numbers_with_the_conversion_of_their_time(
    noise: float, rate: float, steps: int, expected: float
) -> None:
    """Mironov 2017, proposition 3: epsilon = rdp + log(1 / delta) / (order - 1); ours may only be tighter."""
    older = min(steps * renyi_divergence(noise, rate, order) + math.log(1e5) / (order - 1) for order in ORDERS)
    assert older == pytest.approx(expected, abs=0.006)
    assert 0.6 * older < epsilon(noise, rate, steps, 1e-5) < older


REFERENCE = [  # (noise, rate, steps, delta), RdpAccountant and the exact PLDAccountant of dp-accounting 0.6.0
    ((1.1, 256 / 60000, 3516, 1e-5), 1.281300016, 1.133913247),
    ((1.3, 0.01, 1000, 1e-5), 1.262807267, 1.138832274),
    ((4.0, 0.01, 10000, 1e-5), 1.035490066, 0.946999307),
    ((1.0, 1.0, 1, 1e-5), 4.728507067, 4.377178100),
    ((20.0, 0.2, 300, 1e-4), 0.577302663, 0.513870098),
]


@pytest.mark.parametrize(("given_", "renyi", "exact"), REFERENCE)
def test_epsilon_is_that_of_dp_accounting(given_: tuple[float, float, int, float], renyi: float, exact: float) -> None:
    assert epsilon(*given_) == pytest.approx(renyi, rel=1e-8)
    assert epsilon(*given_) > exact


@settings(max_examples=6, deadline=None)
@given(st.floats(0.1, 20), st.floats(1e-4, 1.0), st.integers(1, 5000), st.floats(1e-8, 1e-3))
def test_noise_for_is_the_inverse_and_never_too_small(wanted: float, rate: float, steps: int, delta: float) -> None:
    noise = noise_for(wanted, rate, steps, delta)
    assert epsilon(noise, rate, steps, delta) <= wanted
    if noise > 0.011:
        assert epsilon(noise * 0.999, rate, steps, delta) > wanted


def test_epsilon_at_the_ends() -> None:
    assert epsilon(1.0, 0.1, 0, 1e-5) == epsilon(1.0, 0.0, 10, 1e-5) == noise_for(1.0, 0.1, 0, 1e-5) == 0
    assert epsilon(0.0, 0.1, 1, 1e-5) == epsilon(math.nan, 0.1, 1, 1e-5) == math.inf
    assert noise_for(1e300, 0.1, 10, 1e-5) == 0.01
    with pytest.raises(ConfigError, match="No noise brings epsilon down to 1e-05"):
        noise_for(1e-5, 0.1, 10, 1e-5)
    for bad in [(1.5, 1, 1e-5), (math.nan, 1, 1e-5), (0.1, -1, 1e-5), (0.1, 1, 0.0), (0.1, 1, 1.0)]:
        with pytest.raises(ConfigError, match="delta between 0 and 1"):
            epsilon(1.0, *bad)


class Wrapped(nn.Module):
    """A chain inside a module of one's own, as the zoo's MLP."""

    def __init__(self, *layers: nn.Module, mix: bool = False) -> None:
        super().__init__()
        self.chain, self.mix = nn.Sequential(*layers), mix

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.chain(x)
        return out * 2 if self.mix else out


@given(st.integers(0, 2**20), st.floats(0.05, 5.0), st.sampled_from([0.1, 0.5, 1.0]), st.booleans())
@settings(max_examples=20, deadline=None)
def test_a_chain_of_linear_layers_needs_no_record_s_gradient(
    seed: int, clip: float, density: float, bias: bool
) -> None:
    torch.manual_seed(seed)
    model = Wrapped(nn.Flatten(), nn.Linear(8, 12, bias=bias), nn.Tanh(), nn.Linear(12, 6), nn.ReLU(), nn.Linear(6, 3))
    shapes = {name: tuple(p.shape) for name, p in model.named_parameters() if p.ndim == 2}
    counts = {name: max(1, int(density * math.prod(shape))) for name, shape in shapes.items()}
    state = start_training(model, random_masks(shapes, counts, torch.Generator().manual_seed(seed)))
    x, y = make_data()
    whole = sum_clipped(state.model, state.masks, x[ROWS], y[ROWS], LOSSES["cross_entropy"][0](0, 0), 0, clip)
    assert whole is not None
    expected, _ = loop_oracle(state, ROWS, clip)
    for name, gradient in expected.items():
        masked = whole[0][name] * state.masks[name] if name in state.masks else whole[0][name]
        torch.testing.assert_close(masked / len(ROWS), gradient, rtol=1e-4, atol=1e-6)
    assert torch.allclose(whole[1], functional.cross_entropy(model(x[ROWS]), y[ROWS], reduction="none"))


@pytest.mark.parametrize(
    "model",
    [
        Wrapped(nn.Linear(8, 3), mix=True),
        nn.Sequential(nn.Linear(8, 8), nn.ReLU(inplace=True), nn.Linear(8, 3)),
        nn.Sequential(nn.Linear(8, 4), nn.LayerNorm(4), nn.Linear(4, 3)),
        nn.Sequential(nn.Unflatten(1, (2, 4)), nn.Linear(4, 4), nn.Flatten(), nn.Linear(8, 3)),
        nn.Sequential(*[nn.Linear(8, 8)] * 2),
        nn.Sequential(nn.Linear(8, 3, bias=True), nn.Flatten(0)),
    ],
)
def test_what_is_no_plain_chain_is_differentiated_record_by_record(model: nn.Module) -> None:
    x, y = make_data()
    loss = LOSSES["cross_entropy"][0](0, 0)
    assert sum_clipped(model, {}, x[ROWS], y[ROWS], loss, 0, 0.5) is None


def test_frozen_parameters_count_for_nothing() -> None:
    state = make_state()
    state.model[0].bias.requires_grad_(False)  # type: ignore[index, union-attr]
    rule = PrivateGradient(0.4, 0.0, memory=1)
    rule(state, *make_data(), ROWS, 0)
    fast = {n: p.grad.clone() for n, p in state.model.named_parameters() if p.grad is not None}
    assert set(fast) == {"0.weight", "2.weight", "2.bias"}
    parameters = {n: p for n, p in state.model.named_parameters() if p.requires_grad}
    x, y = make_data()
    each, _ = private._per_record_gradients(state.model, parameters, x[ROWS], y[ROWS], rule.loss, 0)
    totals = {name: torch.zeros_like(p) for name, p in parameters.items()}
    private._add_clipped(totals, each, state.masks, 0.4)
    for name, total in totals.items():
        torch.testing.assert_close(fast[name], total / len(ROWS), rtol=1e-4, atol=1e-6)
