"""The sparse runtime as an operator of ONNX Runtime: answers, batches, threads, and what it refuses."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper

from sctool.domain.wording import FILE_LABELS
from sctool.export.inspect_onnx import inspect_onnx
from sctool.export.manifest import read_manifest
from sctool.export.sparse.graph import Graph, Storage, Window
from sctool.export.sparse.onnx import export_sparse_onnx
from sctool.export.sparse.payload import write_payload
from sctool.export.storage_rules import ORT_SPARSE_OPERATOR
from sctool.models.mobilenet import MobileNetV2
from sctool.native.costs import load_costs
from sctool.native.library import DOMAIN, OPERATOR
from sctool.runtimes.device.runner import OrtRunner, Refusal, find_runner
from sctool.runtimes.registry import open_session
from sctool.workflows.inspect import inspect_path
from tests.native.oracle import answer, convolution, draw, mlp, relative_error
from tests.native.test_backend import thin_out


def open_payload(library: ctypes.CDLL, payload: bytes, inputs: int = 1) -> onnxruntime.InferenceSession:
    """A model of one node; inputs of any shape, so that the node itself has to look."""
    names = [f"x{number}" for number in range(inputs)]
    node = helper.make_node(OPERATOR, names, ["y"], domain=DOMAIN, payload=payload)
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in [*names, "y"]]
    graph = helper.make_graph([node], "g", ports[:-1], ports[-1:])
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid(DOMAIN, 1)]
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.register_custom_ops_library(str(library._name))
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def residual_graph() -> Graph:
    window = Window(3, 3, 1, 1, 1, 1, 1)
    rng = np.random.default_rng(0)
    return convolution(rng, 5, 30, 9, 7, window, density=0.1, storage=Storage.SPARSE, residual=True)


@pytest.mark.parametrize("batch", [0, 1, 5, 1100])
def test_any_batch_is_answered(library: ctypes.CDLL, batch: int) -> None:
    """Beyond the payload's maximum (512) too, in pieces."""
    rng = np.random.default_rng(0)
    graph = mlp(rng, [50, 40, 7], 0.1, Storage.SPARSE)
    x = draw(rng, (batch, 50))
    found = open_payload(library, write_payload(graph)).run(None, {"x0": x})[0]
    assert found.shape == (batch, 7)
    assert relative_error(found, answer(graph, [x])[0]) <= 1e-5


def test_threads_share_a_session(library: ctypes.CDLL) -> None:
    graph = residual_graph()
    session = open_payload(library, write_payload(graph), inputs=2)
    records = [[draw(np.random.default_rng(s), (3, *graph.shapes[i])) for i in graph.inputs] for s in range(4)]
    errors: list[float] = []

    def work(x: list[Any]) -> None:
        for _ in range(30):
            found = session.run(None, {"x0": x[0], "x1": x[1]})[0]
            errors.append(relative_error(found.reshape(3, -1), answer(graph, x)[0]))

    threads = [threading.Thread(target=work, args=(x,)) for x in records]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(errors) == 120 and max(errors) <= 1e-5


def test_a_session_has_as_many_threads_as_it_was_opened_with(library: ctypes.CDLL) -> None:
    graph = convolution(np.random.default_rng(0), 12, 30, 32, 32, Window(3, 3, 1, 1, 1, 1, 1), 1, 0.4, Storage.SPARSE)
    x = draw(np.random.default_rng(1), (2, *graph.shapes[0]))
    expected = open_payload(library, write_payload(graph)).run(None, {"x0": x})[0]
    before = count_threads()
    assert library.sctool_sparse_set_threads(0) and library.sctool_sparse_set_threads(65), "refused"
    assert not library.sctool_sparse_set_threads(3)
    try:
        session = open_payload(library, write_payload(graph))
        assert count_threads() == before + 2
        for records in (x, x[:1]):
            assert relative_error(session.run(None, {"x0": records})[0], expected[: len(records)]) <= 1e-6
    finally:
        library.sctool_sparse_set_threads(1)


def count_threads() -> int:
    """Of this process."""
    if not Path("/proc/self/task").is_dir():
        pytest.skip("no /proc to count threads in")
    return len(list(Path("/proc/self/task").iterdir()))


def test_what_does_not_fit_is_refused(library: ctypes.CDLL) -> None:
    graph = residual_graph()
    payload = write_payload(graph)
    a, b = (np.zeros((2, *graph.shapes[number]), np.float32) for number in graph.inputs)
    session = open_payload(library, payload, inputs=2)
    for wrong, reason in (
        ((a, b[:1]), "unequal batches"),
        ((a[:, :4], b), "another type or shape"),
        ((a[0], b), "shape"),
    ):
        with pytest.raises(Exception, match=reason):
            session.run(None, dict(zip(("x0", "x1"), wrong, strict=True)))
    with pytest.raises(Exception, match="the payload has 2 inputs and 1 outputs, the node 1 and 1"):
        open_payload(library, payload).run(None, {"x0": a})
    for spoilt in (b"", b"SCSP", payload[:-3], payload + b"\0", b"\0" * 40):
        with pytest.raises(Exception, match="payload:"):
            open_payload(library, spoilt, inputs=2)


@pytest.mark.slow
def test_layers_are_shared_out_between_both(library: ctypes.CDLL, tmp_path: Path) -> None:
    """Depthwise layers stay with ONNX Runtime; what lies between them are programs of several layers."""
    table = load_costs("avx512")
    rows = {name: row for name, row in table.rows.items() if name not in ("dense_depthwise", "dense_spatial")}
    costs = replace(table, rows=rows, boundary_ns=0.0, boundary_ns_per_float=0.0)
    model = thin_out(MobileNetV2((3, 32, 32), 10, width=0.25), 0.1)
    example = torch.randn(2, 3, 32, 32)
    made = export_sparse_onnx(model, example, max_batch=4, costs=costs)
    onnx.checker.check_model(made.proto)
    nodes = [node for node in made.proto.graph.node if node.domain == DOMAIN]
    assert [node.attribute[0].s for node in nodes] == made.payloads and len(nodes) > 1
    assert "Conv" in {node.op_type for node in made.proto.graph.node}
    again = export_sparse_onnx(model, example, max_batch=4, costs=costs)
    assert again.proto.SerializeToString() == made.proto.SerializeToString()
    (tmp_path / "m.onnx").write_bytes(made.proto.SerializeToString())
    x = torch.randn(7, 3, 32, 32)
    found = open_session(tmp_path / "m.onnx").run(x.numpy())
    np.testing.assert_allclose(found, model(x).detach().numpy(), atol=1e-4)


def test_the_demo_ships_it(sparse_bundle: Path) -> None:
    manifest = read_manifest(sparse_bundle)
    entry, path = manifest.files["model.sparse.onnx"], sparse_bundle / "model.sparse.onnx"
    assert entry.runtime == "onnxruntime+sparse" and (entry.stores, entry.computes) == ("sparse", "sparse")
    assert {item.backend for item in manifest.backends if item.file == path.name} <= {"sparse", "dense", "onnxruntime"}
    assert entry.size_bytes < 0.3 * manifest.sizes["dense_onnx_bytes"]
    assert set(manifest.sizes) <= set(FILE_LABELS)
    x = np.random.default_rng(0).random((300, 64), np.float32)
    np.testing.assert_allclose(open_session(path).run(x), open_session(sparse_bundle / "model.onnx").run(x), atol=1e-4)
    found = inspect_onnx(path)
    assert ORT_SPARSE_OPERATOR in {runtime.rule for runtime in found.runtimes}
    assert any("a program of the sparse runtime" in note for note in found.notes)
    assert any(
        note.startswith("model.sparse.onnx: ") and "our runtime" in note for note in inspect_path(sparse_bundle).notes
    )
    assert isinstance(find_runner(path), Refusal) and isinstance(find_runner(sparse_bundle / "model.onnx"), OrtRunner)


def test_without_the_library_the_error_says_what_to_build(sparse_bundle: Path, tmp_path: Path) -> None:
    probe = (
        "import sys; from pathlib import Path; from sctool.runtimes.registry import open_session\n"
        "open_session(Path(sys.argv[1]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", probe, sparse_bundle / "model.sparse.onnx"], capture_output=True, text=True,
        env={**os.environ, "SCTOOL_NATIVE": str(tmp_path)},
    )  # fmt: skip
    assert "sctool doctor --build-runtime" in done.stderr.strip().splitlines()[-1]
