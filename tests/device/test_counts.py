"""What a counted call takes follows the program and its input alone: no clock, no thread, no state of the machine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from sctool.errors import DeviceError
from sctool.runtimes.device.emulator import EmulatedSession
from sctool.runtimes.device.kit import EmulatorKit
from sctool.runtimes.device.session import DeviceArtifact
from sctool.workflows.bench import INSTRUCTIONS

INPUTS, OUTPUTS = 256, 1024


@pytest.fixture
def session(kit: EmulatorKit) -> Iterator[EmulatedSession]:
    opened = EmulatedSession(kit)
    yield opened
    opened.close()


@pytest.fixture
def artifact(session: EmulatedSession, tmp_path: Path) -> DeviceArtifact:
    """One matrix product: some 100,000 instructions a call."""
    weights = np.random.default_rng(0).standard_normal((INPUTS, OUTPUTS), np.float32)
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, size])
        for name, size in (("x", INPUTS), ("y", OUTPUTS))
    ]
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    graph = helper.make_graph([node], "product", ends[:1], ends[1:], [numpy_helper.from_array(weights, "w")])
    path = tmp_path / "product.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return DeviceArtifact(session, path)


@pytest.mark.slow
def test_calls_are_alike_however_long_the_program_runs(session: EmulatedSession, artifact: DeviceArtifact) -> None:
    """Seconds pass over so many: by the host's clock, ONNX Runtime would sum up its calls in one of them."""
    work = artifact.work(np.zeros((1, INPUTS), np.float32), iterations=1000)
    calls = session.count(artifact.command(work), timeout_s=120)
    assert len(calls) == 1000
    assert len({tuple(call[name] for name in INSTRUCTIONS) for call in calls[2:]}) == 1, "the first two allocate"


def test_a_program_with_several_threads_is_not_counted(session: EmulatedSession, artifact: DeviceArtifact) -> None:
    work = artifact.work(np.zeros((1, INPUTS), np.float32), iterations=1, threads=3)
    with pytest.raises(DeviceError, match="started 2 more threads"):
        session.count(artifact.command(work), timeout_s=120)
