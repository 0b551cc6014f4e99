"""The stand-alone runner: what it prints, what it refuses, and that no file makes it crash."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from tests.native.conftest import SOURCES, Builder, need

pytestmark = pytest.mark.slow
PROGRAM = SOURCES / "fuzz" / "corpus" / "program.pte"
"""An MLP of 12, 90 and 3, for batches of up to 4."""
STOCK = SOURCES.parents[1] / "fuzz" / "corpus" / "pte" / "float32.pte"


@pytest.fixture(scope="module")
def runner(builder: Builder) -> Path:
    return builder("plain") / "sctool_runner"


def run(runner: Path, folder: Path, *words: object) -> subprocess.CompletedProcess[str]:
    command = [str(runner), *map(str, words)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False)


def put_records(folder: Path, count: int) -> None:
    np.random.default_rng(0).random((count, 12), np.float32).tofile(folder / "x.f32")


def test_a_program_answers_as_the_payload_in_it(runner: Path, tmp_path: Path) -> None:
    """Nine records in calls of four: the last is not full."""
    put_records(tmp_path, 9)
    content = PROGRAM.read_bytes()
    (tmp_path / "bare").write_bytes(content[content.index(b"SCSP") :])
    given = ("--input", "x.f32", "--shape", "12", "--batch", 64)
    done = run(runner, tmp_path, "--model", PROGRAM, "--output", "program.f32", *given)
    assert done.returncode == 0, done.stderr
    line = json.loads(done.stdout)
    assert (line["batch"], line["records"], line["samples_ns"]) == (4, 9, [])
    assert line["model_sha256"] == hashlib.sha256(content).hexdigest()
    for batch in (1, 3):
        run(runner, tmp_path, "--model", "bare", "--output", f"{batch}.f32", *given[:-1], batch)
        found = np.fromfile(tmp_path / f"{batch}.f32", np.float32)
        np.testing.assert_allclose(found, np.fromfile(tmp_path / "program.f32", np.float32), atol=1e-5)
        assert found.size == 9 * 3 and found.std() > 0


def test_the_record_holds_every_sample_and_what_was_really_set(runner: Path, tmp_path: Path) -> None:
    need("taskset")
    put_records(tmp_path, 2)
    core = min(os.sched_getaffinity(0))
    words = ["--model", PROGRAM, "--input", "x.f32", "--shape", "12", "--iterations", 5, "--warm-up", 2,
             "--warm-loads", 3, "--steps", "yes", "--threads", 2]  # fmt: skip
    done = run(Path("taskset"), tmp_path, format(1 << core, "x"), runner, *words)
    line = json.loads(done.stdout)
    assert len(line["samples_ns"]) == 5 and len(line["warm_load_ns"]) == 3 and len(line["step_ns"]) == 2
    assert all(value > 0 for value in [*line["samples_ns"], *line["warm_load_ns"], line["cold_load_ns"]])
    assert line["affinity"] == [str(core)] * 2 and line["threads"] == 2, "one entry a thread"
    assert line["isa"] in ("portable", "neon") and line["vm_hwm_kib"] > line["baseline_vm_hwm_kib"] > 0


def test_a_trace_holds_each_operator_of_each_call(runner: Path, tmp_path: Path) -> None:
    put_records(tmp_path, 1)
    words = ["--model", PROGRAM, "--input", "x.f32", "--shape", "12", "--iterations", 3, "--warm-up", 1]
    assert run(runner, tmp_path, *words, "--trace", "trace").returncode == 0
    events = json.loads((tmp_path / "trace.json").read_text())
    assert [event["name"] for event in events] == ["0 linear", "1 linear"] * 3
    assert all(event["ph"] == "X" and event["dur"] >= 0 for event in events)
    assert [event["ts"] for event in events] == sorted(event["ts"] for event in events)


@pytest.mark.parametrize(
    ("changes", "code", "reason"),
    [
        ({"--model": "absent"}, 3, "cannot read absent"), ({"--input": "absent"}, 3, "cannot read absent"),
        ({"--input": "torn"}, 3, "no whole records"), ({"--input": "empty"}, 3, "no whole records"),
        ({"--output": "no/such/y"}, 3, "cannot write no/such/y"), ({"--iterations": "1", "--batch": "3"}, 3, "too few"),
        ({"--isa": "sve9"}, 4, "has no sve9"), ({"--model": str(STOCK)}, 5, "no program for the sparse runtime"),
        ({"--model": "empty"}, 5, "ends 4 bytes early"), ({"--model": "torn"}, 5, "begin with SCSP"),
        ({"--shape": "3,2,2"}, 5, "in another one"), ({"--shape": "11"}, 5, "12 floats"),
        ({"--iterations": "1", "--batch": "5"}, 5, "the program takes 4"), ({"--shape": "12,"}, 2, "--shape"),
        ({"--shape": "0"}, 2, "--shape"), ({"--batch": "0"}, 2, "goes from 1"), ({"--threads": "many"}, 2, "--threads"),
        ({"--iterations": "99999999999999999999"}, 2, "--iterations"), ({"--no-such": "1"}, 2, "--no-such is no option"),
        ({"--shape": "16777216,16777216"}, 2, "too large"), ({"--shape": ",".join("1" * 9)}, 2, "8 sides"),
    ],
)  # fmt: skip
def test_wrong_input_is_one_line_and_a_code(
    runner: Path, tmp_path: Path, changes: dict[str, str], code: int, reason: str
) -> None:
    put_records(tmp_path, 2)
    (tmp_path / "torn").write_bytes(b"\0" * 95)
    (tmp_path / "empty").write_bytes(b"")
    given = {"--model": str(PROGRAM), "--input": "x.f32", "--shape": "12", "--output": "y.f32", **changes}
    done = run(runner, tmp_path, *(part for pair in given.items() for part in pair))
    assert (done.returncode, done.stdout) == (code, ""), done.stderr
    assert reason in done.stderr and done.stderr.startswith("sctool_runner: ") and done.stderr.count("\n") == 1


def test_an_option_without_its_value_is_named(runner: Path, tmp_path: Path) -> None:
    done = run(runner, tmp_path, "--model")
    assert done.returncode == 2 and "--model needs a value" in done.stderr


def test_spoilt_programs_are_refused_without_a_crash(builder: Builder, tmp_path: Path) -> None:
    """Under the sanitizers: bits flipped where the offsets are, files cut anywhere."""
    runner = builder("asan", "-DSCTOOL_SANITIZE=address,undefined") / "sctool_runner"
    content, generator = PROGRAM.read_bytes(), np.random.default_rng(0)
    codes = set()
    for number in range(30):
        spoilt = bytearray(content)
        for _ in range(2):
            spoilt[int(generator.integers(4, content.index(b"SCSP") + 60))] ^= 1 << int(generator.integers(8))
        cut = len(spoilt) if number % 4 else int(generator.integers(8, len(spoilt)))
        (tmp_path / "spoilt.pte").write_bytes(spoilt[:cut])
        done = run(runner, tmp_path, "--model", "spoilt.pte", "--batch", 2, "--output", "y.f32")
        assert done.returncode in (0, 5) and "Sanitizer" not in done.stderr, done.stderr[-2000:]
        codes.add(done.returncode)
    assert codes == {0, 5}
