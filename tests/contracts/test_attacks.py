"""What every registered attack keeps to."""

from __future__ import annotations

import numpy as np
import pytest

from sctool.domain.membership import Population, Shadows, Signals
from sctool.errors import ConfigError
from sctool.safety.attack import find_lacking, fit_from
from sctool.safety.ensemble import fit_seeds
from sctool.safety.evaluate import blind_baseline, evaluate_attack, summarise_scores
from sctool.safety.metrics import auc
from sctool.safety.registry import ATTACKS, create_attack
from sctool.safety.statistics import margin
from sctool.safety.threshold import best_threshold

CLASSES, QUERIES, SHADOWS, POPULATION = 4, 3, 16, 200


def make_signals(seed: int, size: int, leak: float) -> Signals:
    """`size` members and as many others, with all that any attack looks at.

    A record has its own difficulty, which its shadow models share; whoever was trained on it is right more often and
    surer of it by `leak`, on altered copies by half of that. Features see as much.
    """
    rng = np.random.default_rng(seed)
    count = 2 * size
    labels = rng.integers(0, CLASSES, count)
    is_member = np.repeat([True, False], size)
    ease = 1 + rng.normal(0, 1, count)
    records = np.concatenate([rng.normal(0, 1, (count, 5)), ease[:, None]], axis=1)
    weight = np.array([1.0, 0.5, 0.5])
    logits = rng.normal(0, 1, (count, QUERIES, CLASSES))
    logits[np.arange(count), :, labels] += ease[:, None] + leak * is_member[:, None] * weight
    is_in = rng.permuted(np.arange(SHADOWS)[:, None].repeat(count, 1) % 2 == 0, axis=0)
    others = rng.normal(0, 1, (SHADOWS, count, QUERIES, CLASSES))
    others[:, np.arange(count), :, labels] += ease[:, None, None] + leak * is_in.T[:, :, None] * weight
    shadow_margins = np.stack(
        [[margin(others[s, :, q], labels) for q in range(QUERIES)] for s in range(SHADOWS)]
    ).transpose(0, 2, 1)
    features = rng.normal(0, 1, (count, 7)) + 0.5 * leak * is_member[:, None]
    return Signals(
        logits.astype(np.float32), labels, is_member, records.astype(np.float32), features.astype(np.float32),
        Shadows(shadow_margins, is_in), make_population(seed + 10_000),
    )  # fmt: skip


def make_population(seed: int) -> Population:
    """As records that nobody was trained on."""
    rng = np.random.default_rng(seed)
    labels, ease = rng.integers(0, CLASSES, POPULATION), 1 + rng.normal(0, 1, POPULATION)
    logits = rng.normal(0, 1, (SHADOWS + 1, POPULATION, CLASSES))
    logits[:, np.arange(POPULATION), labels] += ease
    margins = np.stack([margin(each, labels) for each in logits])
    return Population(margins[0], margins[1:])


@pytest.fixture(params=list(ATTACKS))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_names_itself_and_its_threat_model(name: str) -> None:
    attack = create_attack(name)
    assert attack.name == name
    assert attack.threat_model.endswith(".")
    assert find_lacking(attack, make_signals(0, 5, 1.0)) == []
    bare = Signals(np.zeros((4, 1, 2), np.float32), np.zeros(4, np.int64), np.array([True, True, False, False]))
    assert find_lacking(attack, bare) == sorted(attack.needs)


def test_finds_a_leak(name: str) -> None:
    result = evaluate_attack(create_attack(name), make_signals(1, 400, 6.0), make_signals(2, 400, 6.0), 0)
    assert result.auc.low > 0.55
    assert result.balanced_accuracy.low > 0.55


def test_finds_nothing_where_there_is_nothing(name: str) -> None:
    """Over 20 pairs without a leak, the mean AUC is chance and most intervals hold it."""
    results = [
        evaluate_attack(create_attack(name), make_signals(2 * k, 150, 0.0), make_signals(2 * k + 1, 150, 0.0), 0)
        for k in range(20)
    ]
    assert abs(np.mean([result.auc.value for result in results]) - 0.5) < 0.03
    assert sum(result.auc.low <= 0.5 <= result.auc.high for result in results) >= 15


def test_a_warm_start_finds_as_much_and_leaves_what_it_started_from(name: str) -> None:
    attack, parent, child = create_attack(name), make_signals(1, 400, 3.0), make_signals(5, 400, 5.0)
    held_out = make_signals(2, 400, 5.0)
    fitted = attack.fit(parent, 0)
    before = fitted.score(held_out)
    first, second = (fit_from(attack, fitted, child, 3) for _ in range(2))
    np.testing.assert_array_equal(first.score(held_out), second.score(held_out))
    np.testing.assert_array_equal(fitted.score(held_out), before)
    cold = evaluate_attack(attack, child, held_out, 0)
    warm = summarise_scores(name, first.score(held_out), held_out.is_member, first.threshold)
    assert warm.auc.value > cold.auc.value - 0.02
    assert warm.balanced_accuracy.value > cold.balanced_accuracy.value - 0.03


def test_same_seed_same_scores_and_inputs_untouched(name: str) -> None:
    fit, held_out = make_signals(1, 60, 1.0), make_signals(2, 60, 1.0)
    before = fit.logits.copy(), held_out.logits.copy()
    first, second = (create_attack(name).fit(fit, 3).score(held_out) for _ in range(2))
    assert first.shape == (120,) and first.dtype == np.float64 and np.isfinite(first).all()
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(before[0], fit.logits)
    np.testing.assert_array_equal(before[1], held_out.logits)


def test_seeds_are_averaged_where_there_is_something_to_average(name: str) -> None:
    fit, held_out = make_signals(1, 100, 1.0), make_signals(2, 100, 1.0)
    attack = create_attack(name)
    one, other = (attack.fit(fit, seed).score(held_out) for seed in (5, 6))
    assert attack.seeded != np.array_equal(one, other)
    result = evaluate_attack(attack, fit, held_out, 5, seeds=2)
    if not attack.seeded:
        np.testing.assert_array_equal(result.scores, one)
        assert result.auc_by_seed == () and "auc_by_seed" not in result.to_json()
        return
    np.testing.assert_allclose(result.scores, (one + other) / 2, rtol=1e-12)
    assert result.auc_by_seed == tuple(auc(scores, held_out.is_member).value for scores in (one, other))
    fitted = fit_seeds(attack, fit, 5, 2)
    assert result.threshold == fitted.threshold == best_threshold(fitted.score(fit), fit.is_member)


def test_never_looks_at_the_membership_it_is_asked_about(name: str) -> None:
    held_out = make_signals(2, 60, 1.0)
    turned = held_out.with_membership(~held_out.is_member)
    fitted = create_attack(name).fit(make_signals(1, 60, 1.0), 0)
    np.testing.assert_array_equal(fitted.score(held_out), fitted.score(turned))


def test_scores_a_record_alone_as_among_others(name: str) -> None:
    held_out = make_signals(2, 20, 1.0)
    fitted = create_attack(name).fit(make_signals(1, 60, 1.0), 0)
    alone = held_out.take(np.array([0]))
    assert fitted.score(alone)[0] == pytest.approx(fitted.score(held_out)[0], rel=1e-4, abs=1e-5)


def test_a_class_that_was_not_fitted_on_is_scored_all_the_same(name: str) -> None:
    fit = make_signals(1, 60, 1.0)
    keep = fit.labels != 3
    fitted = create_attack(name).fit(fit.take(keep), 0)
    assert np.isfinite(fitted.score(make_signals(2, 60, 1.0))).all()


def test_unknown_attack_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="modified_entropy"):
        create_attack("modified_entrop")


def test_blind_baseline_sees_a_broken_split_and_nothing_in_a_good_one() -> None:
    rng = np.random.default_rng(0)
    flags = np.repeat([True, False], 200)
    x = rng.normal(size=(400, 5)).astype(np.float32)
    other = rng.normal(size=(400, 5)).astype(np.float32)
    assert blind_baseline(x, flags, other, flags, 0).auc.low <= 0.5
    shift = 1.5 * flags[:, None].astype(np.float32)
    assert blind_baseline(x + shift, flags, other + shift, flags, 0).auc.low > 0.8
