"""Stopped at any moment, a run leaves nothing half-written, and goes on to the very same bytes."""

from __future__ import annotations

import hashlib
import json
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from tests.conftest import SHORT

from sctool.domain.config import Config, validate_config
from sctool.errors import ArtifactError, ConfigError, OutputError
from sctool.workflows.checkpoint import checkpoint_path, identify, read_checkpoint, write_checkpoint
from sctool.workflows.compress import compress
from sctool.workflows.experiment import prepare_experiment
from sctool.workflows.search import run_search
from sctool.workflows.search_state import SearchState, start_search

FILES = ["model.safetensors", "masks.safetensors", "dense.safetensors", "split.safetensors"]


def make_config(**more: object) -> Config:
    return validate_config({"compress": {**SHORT, **more}}, where="test")


def digest(folder: Path) -> dict[str, str]:
    return {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in FILES}


def figures(folder: Path) -> list[dict[str, object]]:
    """Every candidate's record but for the time it took."""
    records = [json.loads(line) for line in (folder / "candidates.jsonl").read_text().splitlines()]
    return [{key: value for key, value in record.items() if key != "seconds"} for record in records]


class Stop(Exception):
    pass


PLAIN: dict[str, object] = {"halving": []}
HALVING: dict[str, object] = {"halving": [0.3, 0.6]}
SIDE_BY_SIDE: dict[str, object] = {"halving": [0.4], "jobs": 2}
EVERYTHING: dict[str, object] = {
    "halving": [0.5], "early_stopping": True, "teachers": 3, "teachers_without": 1, "teacher_steps": 40,
    "loss": "soft:0.2+cutmix+weight_decay:0.01", "teacher_loss": "cross_entropy+erase",
    "start": "dense", "density_schedule": "gradual", "last_update_round": 1,
}  # fmt: skip
ADVERSARY: dict[str, object] = {"rule": "adversarial", "early_stopping": True, "final_steps": 70}


@pytest.mark.parametrize(
    "more",
    [PLAIN, HALVING, SIDE_BY_SIDE, EVERYTHING, ADVERSARY],
    ids=["plain", "halving", "side by side", "all", "adversary"],
)
def test_taken_up_after_every_slice_it_ends_the_same(tmp_path: Path, more: dict[str, object]) -> None:
    """Saved, dropped and read again between any two slices of training: the hardest case of all."""
    short: dict[str, object] = {"dense_steps": 50, "warm_up_steps": 25, "final_steps": 30}
    config = make_config(**{**short, "candidates": ["magnitude/gradient", "set/random", "safety/unfired"], **more})
    safety: dict[str, object] = {"selection": "pareto"}
    if more is HALVING:
        safety |= {"attacker": "warm", "selection_attacks": ["neural", "entropy"]}
    config = config.model_copy(update={"safety": config.safety.model_copy(update=safety)})
    compress(config, tmp_path / "whole")
    experiment = prepare_experiment(config)
    path = tmp_path / "checkpoint.safetensors"
    write_checkpoint(path, start_search(experiment), identify(experiment))

    def save(state: SearchState, due: bool) -> None:
        write_checkpoint(path, state, identify(experiment))
        raise Stop

    stops = 0
    while True:
        state = read_checkpoint(path, experiment)
        try:
            state = run_search(experiment, state, lambda *_: None, save)
            break
        except Stop:
            stops += 1
    assert stops > 10
    whole = compress(config, tmp_path / "again")
    weights = {key: value.tolist() for key, value in state.result.model.state_dict().items()}
    from sctool.workflows.run_directory import read_tensors

    assert weights == {key: value.tolist() for key, value in read_tensors(tmp_path / "whole" / FILES[0]).items()}
    masks = read_tensors(tmp_path / "whole" / "masks.safetensors")
    assert all(torch.equal(state.result.masks[key], value) for key, value in masks.items())
    assert [r["name"] for r in state.records if r["selected"]] == [
        r["name"] for r in figures(tmp_path / "again") if r["selected"]
    ]
    assert whole["exploration"] == state.result.exploration
    front = read_tensors(tmp_path / "whole" / "front.safetensors")
    for kept in state.front:
        for key, value in kept.state.model.state_dict().items():
            assert torch.equal(front[f"{kept.candidate.name}/model/{key}"], value)


LONG = ["compress", "--set", "compress.checkpoint_minutes=0.0005", "-q"]


def start(tmp_path: Path, *more: str, limit_bytes: int | None = None) -> subprocess.Popen[str]:
    def prepare() -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # a background job would ignore it
        if limit_bytes:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, limit_bytes))

    settings = [f"compress.{key}={json.dumps(value)}" for key, value in SHORT.items()]
    sets = [part for setting in settings for part in ("--set", setting)]
    return subprocess.Popen(
        [sys.executable, "-m", "sctool", *LONG, *sets, "-o", str(tmp_path / "run"), *more],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path,
        preexec_fn=prepare,
    )  # fmt: skip


@pytest.mark.slow
def test_killed_at_random_points_it_ends_with_the_same_bytes(made_run: Path, tmp_path: Path) -> None:
    """kill -9 again and again, each time --resume; the bytes are those of the run that was left alone."""
    rng = random.Random(time.time_ns())  # any moment must do; the assertion's message says which were drawn
    unfinished = checkpoint_path(tmp_path / "run")
    delays = []
    for _ in range(4):
        process = start(tmp_path, "--resume")
        deadline = time.monotonic() + 60
        while not unfinished.exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        delays.append(rng.uniform(0, 0.8))
        time.sleep(delays[-1])
        process.kill()
        process.communicate()
        if (tmp_path / "run").exists():
            break
        assert list(tmp_path.glob("run*")) == []
    if not (tmp_path / "run").exists():
        process = start(tmp_path, "--resume")
        _, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
    assert digest(tmp_path / "run") == digest(made_run), delays
    assert figures(tmp_path / "run") == figures(made_run), delays
    assert not unfinished.exists()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_cleanly_and_keeps_the_checkpoint(tmp_path: Path, number: signal.Signals, code: int) -> None:
    process = start(tmp_path, "--set", "compress.dense_steps=1000000")
    unfinished = checkpoint_path(tmp_path / "run")
    deadline = time.monotonic() + 60
    while not unfinished.exists():
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.02)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert "Traceback" not in err and out == "" and "--resume" in err
    assert list(tmp_path.iterdir()) == [unfinished]


def test_a_full_disk_stops_cleanly_and_the_run_goes_on_elsewhere(tmp_path: Path, made_run: Path) -> None:
    """A limit on the size of files stands in for the disk: the checkpoint fits, the finished run does not."""
    process = start(tmp_path, limit_bytes=600_000)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 12, err
    assert "Cannot write" in err and "free space" in err and "Traceback" not in err
    assert all(path == checkpoint_path(tmp_path / "run") for path in tmp_path.iterdir())
    process = start(tmp_path, "--resume")
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert digest(tmp_path / "run") == digest(made_run)


def save_one(tmp_path: Path, config: Config) -> Path:
    experiment = prepare_experiment(config)
    path = checkpoint_path(tmp_path / "run")
    write_checkpoint(path, start_search(experiment), identify(experiment))
    return path


def test_an_unfinished_run_is_not_lost_by_accident(tmp_path: Path) -> None:
    config = make_config()
    path = save_one(tmp_path, config)
    with pytest.raises(OutputError, match=r"--resume to go on with it, or --overwrite"):
        compress(config, tmp_path / "run")
    compress(config, tmp_path / "run", overwrite=True)
    assert not path.exists()


def test_another_runs_checkpoint_is_refused_with_what_differs(tmp_path: Path) -> None:
    save_one(tmp_path, make_config())
    with pytest.raises(ConfigError, match="a run with other settings"):
        compress(make_config(seed=1), tmp_path / "run", resume=True)


@pytest.mark.parametrize("how", ["cut", "flipped", "empty", "no header", "garbage"])
def test_a_damaged_checkpoint_is_refused(tmp_path: Path, how: str) -> None:
    path = save_one(tmp_path, make_config())
    content = path.read_bytes()
    spoilt = {
        "cut": content[: len(content) // 2], "flipped": content[:40] + bytes([content[40] ^ 255]) + content[41:],
        "empty": b"", "no header": b"\x02\x00\x00\x00\x00\x00\x00\x00{}", "garbage": bytes(range(256)) * 20,
    }  # fmt: skip
    path.write_bytes(spoilt[how])
    with pytest.raises(ArtifactError, match="Cannot take up"):
        compress(make_config(), tmp_path / "run", resume=True)


def test_halving_trains_the_worse_half_less(tmp_path: Path) -> None:
    config = make_config(
        halving=[0.2, 0.5], candidates=["magnitude/gradient", "set/random", "magnitude/random", "taylor/momentum"]
    )
    compress(config, tmp_path / "run")
    for index in range(2):
        steps = sorted(int(str(r["steps"])) for r in figures(tmp_path / "run") if r["round"] == index)
        first = SHORT["warm_up_steps"] + index * SHORT["steps_per_round"]  # type: ignore[operator]
        assert steps == [first + 6, first + 6, first + 15, first + 30]
        selected = [r for r in figures(tmp_path / "run") if r["round"] == index and r["selected"]]
        assert [r["steps"] for r in selected] == [first + 30]
