"""A user's executor_runner: a stand-in on ExecuTorch's Python runtime, and fakes that fail as builds do."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from sctool.cli.app import app
from sctool.domain.device import DeviceSession
from sctool.errors import ArtifactError, DeviceError
from sctool.runtimes.device.executor import ExecutorArtifact
from sctool.runtimes.device.registry import on_device
from sctool.runtimes.device.session import DeviceArtifact, open_artifact
from sctool.runtimes.executorch import ExecuTorchSession
from sctool.workflows.on_device import add_device
from sctool.workflows.subject import open_subject

SEEDS = Path(__file__).resolve().parents[3] / "fuzz" / "corpus"
PROGRAM, PACKAGE = SEEDS / "pte/float32.pte", SEEDS / "spte/float32.spte"
"""An MLP of 12, 90 and 3, for batches of up to 4."""
HELP = """\
executor_runner: Warning: SetUsageMessage() never called

  Flags from /executorch/examples/portable/executor_runner/executor_runner.cpp:
    -cpu_threads (Number of CPU threads for inference.) type: int32 default: -1
    -data_path (Path to data file (.ptd).) type: string default: ""
    -input_shapes (Per-input shapes) type: string default: ""
    -inputs (Comma-separated list of input files) type: string default: ""
    -method_name (Name of the method to run.) type: string default: ""
    -model_path (Model serialized in flatbuffer format.) type: string
      default: "model.pte"
    -num_executions (Number of times to run the model.) type: uint32 default: 1
    -output_file (Base name of output file.) type: string default: ""
    -print_output (Output printing mode) type: string default: "summary"
"""
STAND_IN = f"""\
#!{sys.executable}
import sys, time
if sys.argv[1:] == ["--help"]:
    print({HELP!r})
    sys.exit(1)
given = dict(zip(sys.argv[1::2], sys.argv[2::2]))
import numpy as np, torch
from executorch.extension.pybindings import _portable_lib as runtime
data = open(given["--data_path"], "rb").read() if "--data_path" in given else None
program = open(given["--model_path"], "rb").read()
module = runtime._load_for_executorch_from_buffer(program, data_map_buffer=data)
shape = module.method_meta("forward").input_tensor_meta(0).sizes()
x = torch.from_numpy(np.fromfile(given["--inputs"], np.float32).reshape(shape))
if "--input_shapes" in given:
    x = x[: int(given["--input_shapes"].split("x")[0])]
print("I 00:00:00.1 executorch:executor_runner.cpp:1] Model loaded in 2.500000 ms.", file=sys.stderr)
count = int(given.get("--num_executions", 1))
for i in range(count):
    start = time.perf_counter()
    y = module.forward((x,))[0]
    took = 1000 * (time.perf_counter() - start)
    print(f"I 00:00:00.2 executorch:executor_runner.cpp:2] Iteration {{i + 1}} of {{count}}: {{took:f}} ms", file=sys.stderr)
if "--output_file" in given:
    y.numpy().tofile(given["--output_file"] + "-0.bin")
time.sleep(0.3)
"""
Make = Callable[[str], Path]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """An executor_runner from the text of a script."""

    def call(text: str) -> Path:
        path = tmp_path / "runner"
        path.write_text(text)
        path.chmod(0o755)
        return path

    return call


@pytest.fixture
def host() -> Iterator[DeviceSession]:
    with on_device("host") as session:
        yield session


def fake(body: str, *, without: str = "") -> str:
    """A shell script that answers --help as a real one does, less the option `without`, and else runs `body`."""
    text = "".join(line for line in HELP.splitlines(keepends=True) if not (without and f"-{without} " in line))
    return f"#!/bin/sh\nif [ \"$1\" = --help ]; then cat <<'END'\n{text}END\nexit 1; fi\n{body}\n"


def measure(artifact: ExecutorArtifact, **changes: Any) -> dict[str, Any]:
    settings = {"threads": 1, "warm_up": 2, "iterations": 3, "warm_loads": 0, "cores": (), "timeout_s": 60.0, **changes}
    return artifact.measure_calls(np.zeros((1, 12), np.float32), **settings)


@pytest.mark.slow
@pytest.mark.parametrize("path", [PROGRAM, PACKAGE], ids=lambda path: path.suffix)
def test_it_answers_as_executorch_does(path: Path, host: DeviceSession, make: Make) -> None:
    """Five records where a program takes four: the second call is filled up."""
    x = np.random.default_rng(0).random((5, 12), np.float32)
    artifact = open_artifact(host, path, make(STAND_IN))
    assert isinstance(artifact, ExecutorArtifact)
    np.testing.assert_allclose(artifact.run(x), ExecuTorchSession(path).run(x), atol=1e-5)
    with pytest.raises(ArtifactError, match="takes records"):
        artifact.run(x[:, :11])


@pytest.mark.slow
def test_its_times_and_what_the_kernel_says_of_it(host: DeviceSession, make: Make) -> None:
    core = min(os.sched_getaffinity(0))
    record = measure(ExecutorArtifact(host, PROGRAM, make(STAND_IN)), cores=(core,))
    assert len(record["samples_ns"]) == 3 and all(value > 0 for value in record["samples_ns"])
    assert record["affinity"] == [str(core)] and record["vm_hwm_kib"] > 1000 and record["cold_load_ns"] == 2_500_000
    assert record["runtime_version"].startswith("executor_runner ") and record["baseline_vm_hwm_kib"] is None


def test_our_own_runner_comes_first(host: DeviceSession, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    sparse = SEEDS.parents[1] / "toolchain/sparse_runtime/fuzz/corpus/program.pte"
    monkeypatch.setattr("sctool.runtimes.device.runner.native.find_runner", lambda: make("#!/bin/sh\n"))
    assert isinstance(open_artifact(host, sparse, make(STAND_IN)), DeviceArtifact)


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("#!/bin/sh\necho 'cannot execute: Exec format error' >&2; exit 126\n", "Exec format error"),
        ("#!/bin/sh\nexit 0\n", "exit code 0"), (fake("", without="inputs"), "no --inputs"),
        ("#!/bin/sh\necho '    -model_path (x) type: string'\n", "no --inputs, --output_file"),
    ],
)  # fmt: skip
def test_what_is_no_executor_runner(script: str, reason: str, host: DeviceSession, make: Make) -> None:
    with pytest.raises(DeviceError, match=reason):
        ExecutorArtifact(host, PROGRAM, make(script))


@pytest.mark.parametrize(
    ("script", "error", "reason"),
    [
        (fake("echo 'F 0 executorch:executor_runner.cpp:3] In function main(), assert failed: Loading of method forward "
              "failed with status 0x20' >&2; kill -ABRT $$"), ArtifactError, "killed by signal 6.*status 0x20"),
        (fake("exit 3"), ArtifactError, "ended with 3"),
        (fake('while [ "$1" ]; do [ "$1" = --output_file ] && printf 12345 > "$2-0.bin"; shift; done'), DeviceError,
         "5 bytes"),
        (fake("exit 0"), DeviceError, "holds no answer-0.bin"),
    ],
)  # fmt: skip
def test_a_run_that_fails_says_why(
    script: str, error: type[Exception], reason: str, host: DeviceSession, make: Make
) -> None:
    with pytest.raises(error, match=reason):
        ExecutorArtifact(host, PROGRAM, make(script)).run(np.zeros((2, 12), np.float32))


@pytest.mark.parametrize("missing", ["num_executions", "input_shapes"])
def test_what_an_old_build_cannot_be_timed_by(missing: str, host: DeviceSession, make: Make) -> None:
    with pytest.raises(DeviceError, match=f"no --{missing}"):
        measure(ExecutorArtifact(host, PROGRAM, make(fake("", without=missing))))


def test_a_package_needs_a_runner_that_takes_data(host: DeviceSession, make: Make) -> None:
    with pytest.raises(DeviceError, match="no --data_path"):
        ExecutorArtifact(host, PACKAGE, make(fake("", without="data_path")))


def test_times_that_are_told_in_part_or_not_at_all(host: DeviceSession, make: Make) -> None:
    total = "echo 'I 0 executorch:x.cpp:1] Model executed successfully 5 time(s) in 10.000000 ms.' >&2"
    record = measure(ExecutorArtifact(host, PROGRAM, make(fake(total, without="cpu_threads"))))
    assert record["samples_ns"] == [2_000_000] and "a mean over 5 calls" in record["notes"][0]
    assert record["threads"] is None and record["cold_load_ns"] is None
    with pytest.raises(DeviceError, match="printed no times"):
        measure(ExecutorArtifact(host, PROGRAM, make(fake("exit 0"))))


def test_the_option_is_held_against_the_others(make: Make, bundle_copy: Path) -> None:
    run = CliRunner()
    absent = run.invoke(app, ["profile", str(bundle_copy), "--device", "host", "--executorch-runner", "absent"])
    assert absent.exit_code == 3 and "is no file" in absent.stderr
    nowhere = run.invoke(app, ["verify", str(bundle_copy), "--executorch-runner", str(make(STAND_IN))])
    assert nowhere.exit_code == 3 and "none is named" in nowhere.stderr


@pytest.mark.slow
def test_stock_programs_join_the_audit_and_the_profile(make: Make, bundle_copy: Path) -> None:
    runner = make(STAND_IN)
    with (
        open_subject(bundle_copy, run=None, config=None, data_source=None) as opened,
        add_device(opened, "host", runner) as (subject, on),
    ):
        assert on is not None and not subject.notes
        assert on.twins["model.pte (on host)"] == "model.pte (ExecuTorch)"
        columns = {column.name: column.session for column in subject.columns}
        x = subject.data.x[:3]
        for there, here in on.twins.items():
            np.testing.assert_allclose(columns[there].run(x), columns[here].run(x), atol=1e-4)
        alone = replace(opened, artifacts={"model.onnx": opened.artifacts["model.onnx"]})
        with add_device(alone, "host", runner) as (subject, _):
            assert any("was not used" in note for note in subject.notes)
    command = ["profile", str(bundle_copy), "--device", "host", "--executorch-runner", str(runner), "--iterations", "3"]
    profiled = CliRunner().invoke(app, [*command, "--repeats", "1"])
    assert profiled.exit_code == 0, profiled.output
    assert "executor_runner" in profiled.output and "unknown" in profiled.output
