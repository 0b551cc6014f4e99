"""The verdict: over a gate and beyond chance; an innocent model seldom fails, however many attacks there are."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from sctool.domain.config import VerifyConfig
from sctool.domain.measurement import AttackResult
from sctool.domain.membership import Signals
from sctool.safety.evaluate import evaluate_attack, summarise_scores
from sctool.safety.registry import create_attack
from sctool.workflows.judge import FALSE_ALARMS, Gates, Judged, judge

FLAGS = np.repeat([True, False], 100)
LABELS = np.arange(200) % 4
STRICT = Gates(0.5001, 0.5001, 0.0101, 0.5001).over(VerifyConfig())
"""Just over chance, so that every figure over chance counts."""
ATTACKS = ("loss", "modified_entropy", "modified_entropy_per_class", "entropy", "correctness")


def put(result: AttackResult, column: str = "model") -> Judged:
    return Judged(column, result, LABELS[: len(result.scores)])


def most_alarms(audits: int) -> float:
    """Three standard deviations over the stated rate."""
    return audits * FALSE_ALARMS + 3 * math.sqrt(audits * FALSE_ALARMS * (1 - FALSE_ALARMS))


def test_an_innocent_model_fails_no_oftener_than_stated() -> None:
    """120 audits of 12 attacks, of all records and of each class."""
    rng = np.random.default_rng(0)
    failed = 0
    for _ in range(120):
        results = [summarise_scores("loss", rng.normal(size=200), FLAGS, 0.0) for _ in range(12)]
        failed += bool(judge([put(result) for result in results], STRICT)[0])
    assert failed <= most_alarms(120)


def draw_records(rng: np.random.Generator, count: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    labels = rng.integers(0, 4, count)
    x = rng.normal(size=(count, width))
    x[np.arange(count), labels] += 1.0
    return x, labels


def audit_model(rng: np.random.Generator, *, saw_members: bool, gates: VerifyConfig, width: int = 30) -> list[str]:
    """Failures of a linear classifier on `width` values, trained on the audit's 200 members or on 200 strangers."""
    members, others, strangers = (draw_records(rng, 200, width) for _ in range(3))
    trained_on = members if saw_members else strangers
    model = LogisticRegression(C=1e4, max_iter=500).fit(*trained_on)
    flags, signals = np.repeat([True, False], 100), []
    for half in (slice(0, 100), slice(100, 200)):
        x, y = (np.concatenate([members[k][half], others[k][half]]) for k in (0, 1))
        signals.append(Signals(model.decision_function(x)[:, None, :].astype(np.float32), y, flags))
    results = [evaluate_attack(create_attack(name), signals[0], signals[1], 0) for name in ATTACKS]
    return judge([Judged("model", result, signals[1].labels) for result in results], gates)[0]


@pytest.mark.parametrize("gates", [VerifyConfig(), STRICT])
def test_models_that_never_saw_the_members_pass_at_the_stated_rate(gates: VerifyConfig) -> None:
    """100 real classifiers, each trained, attacked and judged."""
    rng = np.random.default_rng(7)
    failed = sum(bool(audit_model(rng, saw_members=False, gates=gates)) for _ in range(100))
    assert failed <= most_alarms(100)


def test_models_that_learnt_their_members_by_heart_fail() -> None:
    rng = np.random.default_rng(8)
    assert all(audit_model(rng, saw_members=True, gates=VerifyConfig(), width=200) for _ in range(20))


def test_a_leak_is_named_with_the_worst_first() -> None:
    rng = np.random.default_rng(1)
    some, much = (summarise_scores(name, rng.normal(size=200) + leak * FLAGS, FLAGS, leak / 2) for name, leak in
                  (("loss", 1.0), ("rmia", 3.0)))  # fmt: skip
    found, _ = judge([put(some, "a.onnx"), put(much, "a.onnx")], VerifyConfig())
    assert "of rmia is" in found[0] and found[0].startswith("a.onnx: ")
    assert any("AUC of loss" in text for text in found)


def test_a_class_that_leaks_is_named_where_the_average_hides_it() -> None:
    rng = np.random.default_rng(2)
    flags, labels = np.repeat([True, False], 400), np.arange(800) % 16
    scores = rng.normal(size=800) + 2.5 * flags * (labels == 3)
    judged = Judged("a.onnx", summarise_scores("loss", scores, flags, 9.0), labels)
    found, _ = judge([judged], VerifyConfig())
    assert len(found) == 1 and found[0].startswith("a.onnx: AUC of loss within class 3 is 0.9")
    assert judge([judged], Gates(max_class_auc=0.999).over(VerifyConfig()))[0] == []


def test_over_the_limit_is_not_enough_where_records_are_few() -> None:
    flags = np.repeat([True, False], 10)
    mild = summarise_scores("loss", np.arange(20)[::-1] % 7 + 1.0 * flags, flags, 3.0)
    assert mild.auc.value > 0.6
    failures, doubtful = judge([put(mild, "m")], VerifyConfig())
    assert failures == [] and any("AUC of loss" in text and "not judged a leak" in text for text in doubtful)


def test_a_limit_under_chance_fails_all_that_is_over_it() -> None:
    result = summarise_scores("loss", np.random.default_rng(0).normal(size=200), FLAGS, 0.0)
    failures, _ = judge([put(result, "m")], Gates(max_auc=0.01).over(VerifyConfig()))
    assert len(failures) == 1 and "over the limit of 0.01" in failures[0]
