"""The verdict: over a gate and beyond chance; an innocent model seldom fails, however many attacks there are."""

from __future__ import annotations

import math

import numpy as np

from sctool.domain.config import VerifyConfig
from sctool.safety.evaluate import summarise_scores
from sctool.workflows.judge import FALSE_ALARMS, Gates, judge

FLAGS = np.repeat([True, False], 100)


def test_an_innocent_model_fails_no_oftener_than_stated() -> None:
    """120 audits of 12 attacks at gates just over chance, where every figure over chance counts."""
    rng = np.random.default_rng(0)
    gates = Gates(0.5001, 0.5001, 0.0101).over(VerifyConfig())
    failed = 0
    for _ in range(120):
        results = [summarise_scores("loss", rng.normal(size=200), FLAGS, 0.0) for _ in range(12)]
        failed += bool(judge([("model", result) for result in results], gates)[0])
    assert failed <= 120 * FALSE_ALARMS + 3 * math.sqrt(120 * FALSE_ALARMS * (1 - FALSE_ALARMS))


def test_a_leak_is_named_with_the_worst_first() -> None:
    rng = np.random.default_rng(1)
    some, much = (summarise_scores(name, rng.normal(size=200) + leak * FLAGS, FLAGS, leak / 2) for name, leak in
                  (("loss", 1.0), ("rmia", 3.0)))  # fmt: skip
    found, _ = judge([("a.onnx", some), ("a.onnx", much)], VerifyConfig())
    assert "of rmia is" in found[0] and found[0].startswith("a.onnx: ")
    assert any("AUC of loss" in text for text in found)


def test_over_the_limit_is_not_enough_where_records_are_few() -> None:
    flags = np.repeat([True, False], 10)
    mild = summarise_scores("loss", np.arange(20)[::-1] % 7 + 1.0 * flags, flags, 3.0)
    assert mild.auc.value > 0.6
    failures, doubtful = judge([("m", mild)], VerifyConfig())
    assert failures == [] and any("AUC of loss" in text and "not judged a leak" in text for text in doubtful)


def test_a_limit_under_chance_fails_all_that_is_over_it() -> None:
    result = summarise_scores("loss", np.random.default_rng(0).normal(size=200), FLAGS, 0.0)
    failures, _ = judge([("m", result)], Gates(max_auc=0.01).over(VerifyConfig()))
    assert len(failures) == 1 and "over the limit of 0.01" in failures[0]
