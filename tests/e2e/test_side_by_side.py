"""Candidates trained in processes of their own: the same bytes, clear errors, and nothing left behind."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from tests.conftest import SHORT

from sctool.domain.config import Config, validate_config
from sctool.errors import TrainingError
from sctool.workflows import side_by_side
from sctool.workflows.checkpoint import checkpoint_path
from sctool.workflows.compress import compress

CANDIDATES = ["magnitude/gradient", "set/random/relax", "magnitude/momentum"]


def make_config(**more: object) -> Config:
    return validate_config({"compress": {**SHORT, "candidates": CANDIDATES, **more}}, where="test")


@pytest.mark.slow
@pytest.mark.parametrize(
    "more",
    [{"halving": [0.5]}, {"rule": "adversarial"}, {"loss": "soft:0.2", "teachers": 3, "teachers_without": 1}],
    ids=["halving", "adversarial", "soft labels"],
)
def test_it_ends_with_the_same_bytes(tmp_path: Path, more: dict[str, object], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sctool.workflows.search.PIECE", 17)
    if more.get("rule"):
        more["candidates"] = ["magnitude/gradient", "set/random"]
    for jobs in (1, 2):
        compress(make_config(jobs=jobs, **more), tmp_path / str(jobs))
    names = ["model.safetensors", "masks.safetensors"]
    one, two = (
        [hashlib.sha256((tmp_path / jobs / name).read_bytes()).hexdigest() for name in names] for jobs in ("1", "2")
    )
    assert one == two


@pytest.mark.slow
def test_an_error_of_a_process_is_told_as_it_is(tmp_path: Path) -> None:
    config = make_config(jobs=2, learning_rate=1e30, warm_up_steps=0)
    with pytest.raises(TrainingError, match=r"at step \d+\. Lower compress\.learning_rate \(now 1e\+30\)"):
        compress(config, tmp_path / "run")


@pytest.mark.slow
def test_a_process_that_dies_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(side_by_side, "_train", lambda *_: os.abort())
    monkeypatch.setattr(side_by_side, "replace", lambda piece, **_: piece)
    with pytest.raises(TrainingError, match=r"died, 2 side by side\. .*lower compress\.jobs.*--resume"):
        side_by_side.train_side_by_side([SimpleNamespace(state=None)] * 2, 2)  # type: ignore[list-item]


@pytest.mark.slow
def test_kill_9_leaves_no_process_behind(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sctool", "compress", "--jobs", "2", "--output", str(tmp_path / "run"), "-q"]
    for setting in (
        "dense_steps=1", "warm_up_steps=25", "steps_per_round=100000", "halving=[]", "checkpoint_minutes=0.001",
        "loss=cross_entropy",
    ):  # fmt: skip
        command += ["--set", f"compress.{setting}"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    children: list[psutil.Process] = []
    deadline = time.monotonic() + 90
    while len(children) < 3 or not checkpoint_path(tmp_path / "run").exists():  # Two workers, and one who tidies up.
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.1)
        children = psutil.Process(process.pid).children(recursive=True)
    time.sleep(3)
    process.kill()
    process.wait()
    _, alive = psutil.wait_procs(children, timeout=30)
    assert alive == []
