"""Attackers that are trained, held against their definitions written out in plain numpy, record by record."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pytest
from numpy.typing import NDArray

from sctool.domain.membership import Signals
from sctool.safety.neural import NeuralAttack
from sctool.safety.quantile import UPPER, QuantileAttack
from sctool.safety.registry import create_attack
from sctool.safety.samia import HEADS, LAYERS, WIDTH, SamiaAttack
from sctool.safety.white_box import WhiteBoxAttack

CLASSES, COUNT = 3, 40
Weights = Mapping[str, NDArray[np.floating]]


@pytest.fixture(scope="module")
def signals() -> Signals:
    rng = np.random.default_rng(0)
    labels, flags = rng.integers(0, CLASSES, COUNT), np.arange(COUNT) % 2 == 0
    logits = rng.normal(0, 2, (COUNT, 2, CLASSES))
    logits[np.arange(COUNT), :, labels] += 1.5 * flags[:, None]
    records, features = rng.normal(size=(COUNT, 6)), rng.normal(size=(COUNT, 9)) + flags[:, None]
    return Signals(logits.astype(np.float32), labels, flags, records.astype(np.float32), features.astype(np.float32))


def softmax(values: NDArray[np.floating]) -> NDArray[np.floating]:
    powers = np.exp(values.astype(np.float64) - values.max())
    return powers / powers.sum()


def read_weights(network: object) -> Weights:
    return {name: value.double().numpy() for name, value in network.state_dict().items()}  # type: ignore[attr-defined]


def linear(weights: Weights, name: str, x: NDArray[np.floating]) -> NDArray[np.floating]:
    return weights[f"{name}.weight"] @ x + weights[f"{name}.bias"]


def stack(weights: Weights, names: list[str], x: NDArray[np.floating]) -> NDArray[np.floating]:
    """Linear layers, each with a ReLU."""
    for name in names:
        x = np.maximum(linear(weights, name, x), 0)
    return x


def test_the_neural_attacker_reads_prediction_and_label(signals: Signals) -> None:
    fitted = NeuralAttack(epochs=2).fit(signals, 0)
    weights = read_weights(fitted.network)
    expected = []
    for n in range(COUNT):
        label = np.full(CLASSES, -1.0)
        label[signals.labels[n]] = 1.0
        output = stack(weights, ["output.0", "output.2", "output.4"], softmax(signals.logits[n, 0]))
        joined = np.concatenate([output, stack(weights, ["label.0", "label.2"], label)])
        expected.append(float(linear(weights, "joint.4", stack(weights, ["joint.0", "joint.2"], joined))[0]))
    np.testing.assert_allclose(fitted.score(signals), expected, rtol=1e-4, atol=1e-6)


def normalise(weights: Weights, name: str, x: NDArray[np.floating]) -> NDArray[np.floating]:
    """Layer norm over the last axis."""
    centred = x - x.mean(axis=-1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-5)
    return scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def attend(weights: Weights, name: str, tokens: NDArray[np.floating]) -> NDArray[np.floating]:
    """Multi-head self-attention over tokens [C, W], token by token."""
    size = WIDTH // HEADS
    mixed = np.zeros_like(tokens)
    parts = np.stack([weights[f"{name}.in_proj_weight"] @ t + weights[f"{name}.in_proj_bias"] for t in tokens])
    query, key, value = parts[:, :WIDTH], parts[:, WIDTH : 2 * WIDTH], parts[:, 2 * WIDTH :]
    for head in range(HEADS):
        at = slice(head * size, (head + 1) * size)
        for i in range(len(tokens)):
            share = softmax(np.array([query[i, at] @ key[j, at] / math.sqrt(size) for j in range(len(tokens))]))
            mixed[i, at] = sum(share[j] * value[j, at] for j in range(len(tokens)))
    return np.stack([linear(weights, f"{name}.out_proj", each) for each in mixed])


def test_samia_is_attention_over_classes(signals: Signals) -> None:
    fitted = SamiaAttack(epochs=2).fit(signals, 0)
    weights = read_weights(fitted.network)
    expected = []
    for n in range(COUNT):
        first, second = softmax(signals.logits[n, 0]), softmax(signals.logits[n, 1])
        label = np.eye(CLASSES)[signals.labels[n]]
        raw = np.stack([first, np.log(first) / 10, np.abs(second - first), label], axis=1)
        tokens = np.stack([linear(weights, "embed", each) for each in raw]) + weights["name"][0]
        for k in range(LAYERS):
            layer = f"attend.layers.{k}"
            tokens = tokens + attend(weights, f"{layer}.self_attn", normalise(weights, f"{layer}.norm1", tokens))
            inner = normalise(weights, f"{layer}.norm2", tokens)
            tokens = tokens + np.stack(
                [linear(weights, f"{layer}.linear2", stack(weights, [f"{layer}.linear1"], each)) for each in inner]
            )
        joined = np.concatenate([tokens.mean(axis=0), tokens[signals.labels[n]]])
        expected.append(float(linear(weights, "decide.2", stack(weights, ["decide.0"], joined))[0]))
    np.testing.assert_allclose(fitted.score(signals), expected, rtol=1e-3, atol=1e-4)


def test_the_white_box_attacker_reads_features_prediction_and_label(signals: Signals) -> None:
    fitted = WhiteBoxAttack(epochs=2).fit(signals, 0)
    weights = read_weights(fitted.network)
    assert signals.features is not None
    centre, scale = signals.features.mean(axis=0), signals.features.std(axis=0)
    expected = []
    for n in range(COUNT):
        seen = np.clip((signals.features[n] - centre) / scale, -10, 10)
        output = np.concatenate([softmax(signals.logits[n, 0]), np.eye(CLASSES)[signals.labels[n]]])
        sides = [stack(weights, ["inside.0", "inside.2"], seen), stack(weights, ["outside.0", "outside.2"], output)]
        expected.append(float(linear(weights, "joint.2", stack(weights, ["joint.0"], np.concatenate(sides)))[0]))
    np.testing.assert_allclose(fitted.score(signals), expected, rtol=1e-3, atol=1e-5)


def test_the_quantile_attack_counts_spreads_above_what_strangers_reach() -> None:
    """Margins of non-members are normal around a line in the record: the score is the member's distance from it in
    standard deviations, up to the steps of the trees."""
    rng = np.random.default_rng(1)
    count = 4000
    x = rng.uniform(-1, 1, (count, 1)).astype(np.float32)
    margins = 3 * x[:, 0] + rng.normal(0, 0.5, count)
    logits = np.stack([margins, np.zeros(count)], axis=1)[:, None, :].astype(np.float32)
    flags = np.arange(count) % 2 == 0
    fitted = QuantileAttack().fit(Signals(logits, np.zeros(count, np.int64), flags, x), 0)
    expected = (margins - 3 * x[:, 0]) / 0.5
    found = fitted.score(Signals(logits, np.zeros(count, np.int64), flags, x))
    assert float(np.corrcoef(found, expected)[0, 1]) > 0.95
    outside = found[~flags]
    assert float(np.mean(outside < 0)) == pytest.approx(0.5, abs=0.05)
    assert float(np.mean(outside < 1)) == pytest.approx(UPPER, abs=0.04)


def test_label_only_is_the_share_of_right_answers(signals: Signals) -> None:
    fitted = create_attack("label_only").fit(signals, 0)
    right = [sum(int(np.argmax(signals.logits[n, q]) == signals.labels[n]) for q in range(2)) / 2 for n in range(COUNT)]
    best = max(
        sorted(set(right)),
        key=lambda t: (
            np.mean([r >= t for r, m in zip(right, signals.is_member, strict=True) if m])
            + np.mean([r < t for r, m in zip(right, signals.is_member, strict=True) if not m])
        ),
    )
    np.testing.assert_allclose(fitted.score(signals), np.array(right) - best)
