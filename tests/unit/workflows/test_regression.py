"""Worse than before: told where it is, not told where it is noise; and the verdict as JUnit XML."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from sctool.errors import ArtifactError
from sctool.safety.evaluate import summarise_scores
from sctool.workflows.junit import to_junit
from sctool.workflows.regression import FALSE_ALARMS, find_regressions, read_baseline

FLAGS = np.repeat([True, False], 200)


def make_column(rng: np.random.Generator, leak: float, name: str = "model.onnx (ONNX Runtime)") -> dict[str, Any]:
    results = [
        summarise_scores(attack, rng.normal(size=400) + leak * FLAGS, FLAGS, leak / 2) for attack in ("loss", "rmia")
    ]
    return {
        "name": name, "kind": "artifact", "regressions": [], "attacks": [result.to_json() for result in results],
    }  # fmt: skip


def test_models_that_leak_alike_are_seldom_told_apart() -> None:
    rng = np.random.default_rng(0)
    told = sum(
        bool(find_regressions([make_column(rng, 0.5)], {"columns": [make_column(rng, 0.5)]})) for _ in range(200)
    )
    assert told <= 200 * FALSE_ALARMS + 3 * math.sqrt(200 * FALSE_ALARMS * (1 - FALSE_ALARMS))


def test_a_model_that_leaks_more_is_told_and_one_that_leaks_less_is_not() -> None:
    rng = np.random.default_rng(1)
    little, much = make_column(rng, 0.1), make_column(rng, 1.5)
    found = find_regressions([much], {"columns": [little]})
    assert list(found) == [much["name"]] and any("AUC of rmia rose from" in text for text in found[much["name"]])
    assert find_regressions([little], {"columns": [much]}) == {}
    assert find_regressions([much], {"columns": [{**little, "kind": "sparse"}]}) == {}


def test_a_baseline_that_is_none_is_refused(tmp_path: Path) -> None:
    for content in ("{", "[]", '{"columns": 3}', '{"columns": [{"kind": "artifact", "attacks": [{}]}]}'):
        (tmp_path / "verification.json").write_text(content)
        with pytest.raises(ArtifactError, match="Cannot read the baseline"):
            read_baseline(tmp_path)
    with pytest.raises(ArtifactError, match=r"nowhere"):
        read_baseline(tmp_path / "nowhere")
    (tmp_path / "verification.json").write_text(json.dumps({"columns": [make_column(np.random.default_rng(0), 0.0)]}))
    assert read_baseline(tmp_path) == read_baseline(tmp_path / "verification.json")


def test_junit_has_a_case_for_each_attack_and_the_failures_in_their_words() -> None:
    column = make_column(np.random.default_rng(0), 2.0)
    column["regressions"] = [f"{column['name']}: AUC of loss rose < & >."]
    text = f"{column['name']}: AUC of loss is 0.9 [0.8, 1.0], over the limit of 0.6."
    carried = "notes.txt carries training record 3 (bytes, byte 7)."
    root = ElementTree.fromstring(to_junit({"columns": [column], "failures": [text, carried]}))
    assert root.get("tests") == "4" and root.get("failures") == "3"
    cases = {case.get("name"): case for case in root.iter("testcase")}
    failure = cases["loss"].find("failure")
    assert failure is not None and failure.get("message") == text
    assert cases["rmia"].find("failure") is None and set(cases) == {
        "loss",
        "rmia",
        "baseline",
        "carries no training record",
    }
