"""The report: self-contained, truthful about what is missing, and safe with hostile names."""

from __future__ import annotations

import html.parser
import json
import re
from pathlib import Path
from typing import Any

import pytest

from sctool.report.figures import LONG_LABEL, draw_roc
from sctool.report.page import render_report
from sctool.workflows.report import report
from sctool.workflows.verify import verify

Record = dict[str, Any]


@pytest.fixture(scope="session")
def records(made_run: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Everything a page is made of; the profile's figures are made up, and odd enough to be found again."""
    bundle = made_run / "bundles" / "android"
    _, verification = verify(bundle, output=tmp_path_factory.mktemp("verify") / "v.json")
    item = {
        "artifact": "model.onnx", "runtime": "onnxruntime", "measured_on": "host", "machine": "a machine", "threads": 1,
        "batch_size": 1, "warm_up": 2, "repeats": 3, "iterations": 5, "cold_load_ms": 8.25, "warm_load_ms": 4.5,
        "latency_ms": {"p50": 1.2345, "p90": 2.3456, "p99": 3.4567}, "peak_memory_mib": 91.5,
        "baseline_memory_mib": 50.25,
    }  # fmt: skip
    return {
        "run": json.loads((made_run / "summary.json").read_text()),
        "candidates": [json.loads(line) for line in (made_run / "candidates.jsonl").read_text().splitlines()],
        "bundle": json.loads((bundle / "manifest.json").read_text()),
        "verification": verification,
        "profile": {"profiles": [item], "violations": ["p50 is over budget"], "notes": ["not gated"]},
    }


class _Reader(html.parser.HTMLParser):
    """Tags must nest; ids must be unique."""

    VOID = ("meta", "br", "img", "link", "path", "use", "rect", "circle", "line")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.references: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in self.VOID:
            self.open.append(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            if name in ("src", "href", "xlink:href"):
                self.references.append(value or "")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in self.VOID:
            self.handle_starttag(tag, attrs)
            self.open.pop()
        else:
            self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag


def read(page: str) -> _Reader:
    reader = _Reader()
    reader.feed(page)
    return reader


def test_well_formed_and_self_contained(records: dict[str, Any]) -> None:
    page = render_report(**records)
    reader = read(page)
    assert reader.open == []
    assert len(reader.ids) == len(set(reader.ids)) > 10
    assert all(reference.startswith("#") for reference in reader.references)
    assert {reference[1:] for reference in reader.references} <= set(reader.ids)
    assert {used for used in re.findall(r"url\(#([^)]+)\)", page)} <= set(reader.ids)
    assert not re.search(r"<script|<link|@import|https?://(?!www\.w3\.org)", page)
    assert "#0102" not in page  # every stand-in colour became a variable


def test_says_what_the_records_say(records: dict[str, Any]) -> None:
    page = render_report(**records)
    run, bundle, verification = records["run"], records["bundle"], records["verification"]
    for text in (run["name"], run["split"]["sha256"][:16], "PASS", "p50 is over budget", "not gated",
                 *(entry["sha256"] for entry in bundle["files"].values()), "1.2345", "41.2",
                 *(layer["name"] for layer in bundle["layers"])):  # fmt: skip
        assert text in page, text
    for column in verification["columns"]:
        for attack in column["attacks"]:
            assert f"{attack['auc']['value']:.3f}" in page


def test_no_file_that_computes_sparse_is_called_as_slow_as_dense(records: dict[str, Any]) -> None:
    assert "own runtime" not in render_report(**records)
    name, entry = next(iter(records["bundle"]["files"].items()))
    files = {**records["bundle"]["files"], name: {**entry, "computes": "sparse"}}
    page = render_report(**{**records, "bundle": {**records["bundle"], "files": files}})
    assert f"but for {name}, whose sparse layers run in sctool&#39;s own runtime" in page.replace("'", "&#39;")


def test_a_long_name_of_a_device_is_broken_in_the_legend(records: dict[str, Any]) -> None:
    name = f"model.onnx (on {' '.join(['a long name of a device'] * 5)})"
    columns = [*records["verification"]["columns"], {**records["verification"]["columns"][-1], "name": name}]
    svg, _ = draw_roc({**records["verification"], "columns": columns})
    texts = re.findall(r"<t(?:ext|span)[^>]*>([^<]+)<", svg)
    assert max(map(len, texts)) <= LONG_LABEL and "model.onnx (on a long name" in svg


def test_same_records_same_page(records: dict[str, Any]) -> None:
    assert render_report(**records) == render_report(**records)


def test_a_leak_leads_the_page(records: dict[str, Any]) -> None:
    leaking = {**records["verification"], "verdict": "leak", "failures": ["model.onnx: AUC is 0.9, over 0.6."]}
    page = render_report(**{**records, "verification": leaking})
    assert "<strong>LEAK</strong>" in page and "<strong>PASS</strong>" not in page
    assert page.index("AUC is 0.9") < page.index("The search")


@pytest.mark.parametrize(
    ("missing", "command"),
    [("verification", "sctool verify"), ("profile", "sctool profile"), ("bundle", "sctool export")],
)
def test_what_is_missing_is_named(records: dict[str, Any], missing: str, command: str) -> None:
    page = render_report(**{**records, missing: None})
    assert command in page
    assert read(page).open == []
    assert ("NOT VERIFIED" in page) == (missing == "verification")


def test_a_run_alone_makes_a_page(made_run: Path, tmp_path: Path, records: dict[str, Any]) -> None:
    page = render_report(records["run"], [], None, None, None)
    assert "holds no candidates" in page and read(page).open == []
    path = report(made_run, output=tmp_path / "r.html")
    assert path.read_text(encoding="utf-8").startswith("<!doctype html>")


def test_hostile_names_stay_text(records: dict[str, Any]) -> None:
    evil = '<script>alert("x")</script>'
    run = {**records["run"], "name": evil, "left_dense": [{"layer": evil, "reason": evil}]}
    candidates = [{**candidate, "drop": evil} for candidate in records["candidates"]]
    columns = [{**column, "name": evil} for column in records["verification"]["columns"]]
    verification = {**records["verification"], "columns": columns}
    page = render_report(**{**records, "run": run, "candidates": candidates, "verification": verification})
    assert "<script" not in page
    assert read(page).open == []
