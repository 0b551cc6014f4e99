"""What every registered attack keeps to."""

from __future__ import annotations

import numpy as np
import pytest

from sctool.domain.membership import Signals
from sctool.errors import ConfigError
from sctool.safety.attack import fit_from
from sctool.safety.evaluate import blind_baseline, evaluate_attack, summarise_scores
from sctool.safety.registry import ATTACKS, create_attack

CLASSES = 4


def make_signals(seed: int, size: int, leak: float) -> Signals:
    """`size` members and as many others; members are right more often and surer of it by `leak`."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, CLASSES, 2 * size)
    is_member = np.repeat([True, False], size)
    logits = rng.normal(0, 1, (2 * size, CLASSES))
    logits[np.arange(2 * size), labels] += 1.0 + leak * is_member
    return Signals(logits[:, None, :].astype(np.float32), labels, is_member)


@pytest.fixture(params=list(ATTACKS))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_names_itself_and_its_threat_model(name: str) -> None:
    attack = create_attack(name)
    assert attack.name == name
    assert attack.threat_model.endswith(".")


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


def test_never_looks_at_the_membership_it_is_asked_about(name: str) -> None:
    held_out = make_signals(2, 60, 1.0)
    turned = Signals(held_out.logits, held_out.labels, ~held_out.is_member)
    fitted = create_attack(name).fit(make_signals(1, 60, 1.0), 0)
    np.testing.assert_array_equal(fitted.score(held_out), fitted.score(turned))


def test_scores_a_record_alone_as_among_others(name: str) -> None:
    held_out = make_signals(2, 20, 1.0)
    fitted = create_attack(name).fit(make_signals(1, 60, 1.0), 0)
    alone = Signals(held_out.logits[:1], held_out.labels[:1], held_out.is_member[:1])
    assert fitted.score(alone)[0] == pytest.approx(fitted.score(held_out)[0], rel=1e-4, abs=1e-5)


def test_a_class_that_was_not_fitted_on_is_scored_all_the_same(name: str) -> None:
    fit = make_signals(1, 60, 1.0)
    keep = fit.labels != 3
    fitted = create_attack(name).fit(Signals(fit.logits[keep], fit.labels[keep], fit.is_member[keep]), 0)
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
