"""What every runtime's session keeps to, on files of a real export."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from sctool.domain.artifact import Optimisation, Session
from sctool.errors import ArtifactError
from sctool.runtimes.eager import EagerSession
from sctool.runtimes.onnxruntime import LEVELS, OnnxRuntimeSession
from sctool.runtimes.registry import open_session
from sctool.workflows.run_directory import load_run_model, read_run

FILES = ["model.onnx", "model.pte", "model.spte"]


@pytest.fixture(params=FILES)
def artifact(request: pytest.FixtureRequest, made_run: Path) -> Path:
    return made_run / "bundles" / "android" / str(request.param)


@pytest.fixture
def reference(made_run: Path) -> Session:
    return EagerSession(load_run_model(read_run(made_run)))


@pytest.mark.parametrize("batch", [1, 2, 3, 255, 256, 257, 300])
def test_answers_as_eager_whatever_the_batch(artifact: Path, reference: Session, batch: int) -> None:
    x = np.random.default_rng(batch).random((batch, 64), np.float32)
    logits = open_session(artifact).run(x)
    assert logits.shape == (batch, 10) and logits.dtype == np.float32
    np.testing.assert_allclose(logits, reference.run(x), atol=1e-4)


def test_answers_are_owned_and_repeatable(artifact: Path) -> None:
    """A runtime that hands out its own buffer would overwrite the first answer."""
    session = open_session(artifact)
    x = np.random.default_rng(0).random((4, 64), np.float32)
    first = session.run(x)
    kept = first.copy()
    session.run(x * 0)
    np.testing.assert_array_equal(first, kept)
    np.testing.assert_array_equal(session.run(x), kept)


def test_two_sessions_do_not_disturb_each_other(artifact: Path) -> None:
    x = np.random.default_rng(0).random((4, 64), np.float32)
    one = open_session(artifact)
    expected = one.run(x)
    two = open_session(artifact)
    two.run(x * 2)
    np.testing.assert_array_equal(one.run(x), expected)


def test_input_need_not_be_contiguous(artifact: Path) -> None:
    x = np.random.default_rng(0).random((8, 128), np.float32)
    session = open_session(artifact)
    np.testing.assert_array_equal(session.run(x[::2, ::2]), session.run(x[::2, ::2].copy()))


def test_wrong_shape_is_an_artifact_error(artifact: Path) -> None:
    with pytest.raises(ArtifactError, match="cannot run"):
        open_session(artifact).run(np.zeros((2, 63), np.float32))


@pytest.mark.parametrize("cut", [0, 3, 7, 100, 5000])
def test_truncated_files_are_refused(artifact: Path, tmp_path: Path, cut: int) -> None:
    broken = tmp_path / artifact.name
    broken.write_bytes(artifact.read_bytes()[:cut])
    with pytest.raises(ArtifactError, match=r"cannot load|not an ExecuTorch|no readable"):
        open_session(broken)


def test_garbage_is_refused(artifact: Path, tmp_path: Path) -> None:
    broken = tmp_path / artifact.name
    content = np.random.default_rng(0).bytes(20_000)
    broken.write_bytes(content[:4] + b"ET12" + content[8:])
    with pytest.raises(ArtifactError, match=r"cannot load|no readable"):
        open_session(broken)


def test_a_missing_file_is_an_artifact_error(artifact: Path, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="annot"):
        open_session(tmp_path / artifact.name)


def test_an_unknown_suffix_is_an_artifact_error(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="neither"):
        open_session(tmp_path / "model.tflite")


PROBE = """
import sys
from pathlib import Path
import numpy as np
from sctool.errors import ArtifactError
from sctool.runtimes.onnxruntime import LEVELS, OnnxRuntimeSession
from sctool.runtimes.registry import open_session
original = Path(sys.argv[1])
content = original.read_bytes()
rng = np.random.default_rng(0)
outcomes = {"ran": 0, "refused": 0}
for number in range(40):
    spoilt = bytearray(content)
    limit = len(spoilt) if number % 2 else min(len(spoilt), 4000)
    for position in rng.integers(8, limit, 3):
        spoilt[position] ^= 1 << int(rng.integers(8))
    path = Path(sys.argv[2]) / original.name
    path.write_bytes(spoilt)
    try:
        open_session(path).run(np.zeros((3, 64), np.float32))
        outcomes["ran"] += 1
    except ArtifactError:
        outcomes["refused"] += 1
assert sum(outcomes.values()) == 40 and outcomes["refused"] > 0, outcomes
"""


def test_flipped_bits_never_crash(artifact: Path, tmp_path: Path) -> None:
    """In a process of its own: a crash would be a signal, anything but an ArtifactError a traceback."""
    done = subprocess.run(
        [sys.executable, "-c", PROBE, str(artifact), str(tmp_path)], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-2000:]


THREADS = """
import sys
from pathlib import Path
import numpy as np
from sctool.runtimes.onnxruntime import LEVELS, OnnxRuntimeSession
from sctool.runtimes.registry import open_session
session = open_session(Path(sys.argv[1]), threads=int(sys.argv[2]))
session.run(np.zeros((4, 64), np.float32))
from executorch.extension.pybindings import _portable_lib
print(_portable_lib._threadpool_get_thread_count())
"""


@pytest.mark.parametrize("threads", [1, 2])
def test_executorch_runs_on_the_threads_it_was_given(made_run: Path, threads: int) -> None:
    path = made_run / "bundles" / "android" / "model.pte"
    done = subprocess.run(
        [sys.executable, "-c", THREADS, str(path), str(threads)], capture_output=True, text=True, timeout=120
    )
    assert done.stdout.strip() == str(threads), done.stderr[-1000:]
    assert done.stderr == ""


@pytest.mark.parametrize("level", get_args(Optimisation))
def test_onnx_runtime_rewrites_graphs_as_far_as_it_was_told(
    made_run: Path, reference: Session, level: Optimisation
) -> None:
    session = open_session(made_run / "bundles" / "android" / "model.onnx", optimisation=level)
    assert isinstance(session, OnnxRuntimeSession)
    assert session._session.get_session_options().graph_optimization_level == LEVELS[level]
    x = np.random.default_rng(0).random((4, 64), np.float32)
    np.testing.assert_allclose(session.run(x), reference.run(x), atol=1e-4)
