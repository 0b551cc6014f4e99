"""`export --backend sparse` and what runs it: parity, verify's sessions, profile, and a clear error without the library."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from sctool.domain.config import ExportConfig
from sctool.domain.target import load_target
from sctool.errors import NativeRuntimeMissing
from sctool.export.executorch import export_pte, export_sparse_pte
from sctool.export.manifest import read_manifest
from sctool.export.passes.batch_norm import fold_batch_norm
from sctool.models.mobilenet import MobileNetV2
from sctool.models.resnet import ResNet18
from sctool.models.tabular import Mlp
from sctool.native.costs import list_tables, load_costs
from sctool.native.library import BACKEND, PayloadSession
from sctool.runtimes.registry import open_session
from sctool.workflows import executorch_files
from sctool.workflows.export import export


def test_the_demo_runs_in_the_sparse_backend(sparse_bundle: Path, made_run: Path) -> None:
    manifest = read_manifest(sparse_bundle)
    content = (sparse_bundle / "model.pte").read_bytes()
    assert BACKEND.encode() in content
    assert manifest.files["model.pte"].runtime == "executorch+sparse"
    assert "sparse" in {entry.backend for entry in manifest.backends} and all(e.reason for e in manifest.backends)
    assert len(content) < 0.3 * (made_run / "bundles" / "android" / "model.pte").stat().st_size
    x = np.random.default_rng(0).random((300, 64), np.float32)
    expected = open_session(sparse_bundle / "model.onnx").run(x)
    np.testing.assert_allclose(open_session(sparse_bundle / "model.pte").run(x), expected, atol=1e-4)


def test_a_program_without_a_sparse_layer_is_not_called_sparse(
    made_run: Path, library: ctypes.CDLL, tmp_path: Path
) -> None:
    folder, _ = export(made_run, model="dense", backend="sparse", output=tmp_path / "dense")
    manifest = read_manifest(folder)
    entry = manifest.files["model.pte"]
    assert {item.backend for item in manifest.backends} == {"xnnpack"}
    assert BACKEND.encode() not in (folder / "model.pte").read_bytes()
    told = (entry.runtime, entry.codec, entry.stores, entry.computes)
    assert told == ("executorch+xnnpack", "dense", "dense", "dense")


def test_same_run_same_bytes(sparse_bundle: Path, made_run: Path, tmp_path: Path) -> None:
    again, _ = export(made_run, backend="sparse", output=tmp_path / "again")
    assert (again / "model.pte").read_bytes() == (sparse_bundle / "model.pte").read_bytes()


@pytest.mark.slow
def test_profile_measures_it(sparse_bundle: Path, made_run: Path) -> None:
    from sctool.workflows.profile import profile

    _, record = profile(sparse_bundle, iterations=5, repeats=1, warm_up=1, output=sparse_bundle.parent / "profile.json")
    assert {item["artifact"] for item in record["profiles"]} == {"model.onnx", "model.sparse.onnx", "model.pte"}


SPOIL = """
import sys
from pathlib import Path
import numpy as np
from sctool.errors import ArtifactError
from sctool.formats.pte import read_program
from xxhash import xxh64_intdigest
from sctool.runtimes.registry import open_session
content = Path(sys.argv[1]).read_bytes()
start = content.index(b"SCSP")
sizes = {part.backend: part.payload_bytes for part in read_program(content, "it").methods[0].delegates}
end = start + sizes["SctoolSparse"]
rng = np.random.default_rng(0)
outcomes = {"ran": 0, "refused": 0}
for number in range(60):
    spoilt = bytearray(content)
    for position in rng.integers(start, start + 200 if number % 2 else end, 2):
        spoilt[position] ^= 1 << int(rng.integers(8))
    if sealed := number % 3 > 0:
        spoilt[start + 8 : start + 16] = xxh64_intdigest(bytes(spoilt[start + 16 : end])).to_bytes(8, "little")
    path = Path(sys.argv[2]) / "model.pte"
    path.write_bytes(spoilt)
    try:
        open_session(path).run(np.zeros((3, 64), np.float32))
        assert sealed, "damage that the checksum did not show"
        outcomes["ran"] += 1
    except ArtifactError:
        outcomes["refused"] += 1
assert min(outcomes.values()) > 0, outcomes
"""


def test_a_hostile_pte_is_an_error_and_no_crash(sparse_bundle: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SPOIL, sparse_bundle / "model.pte", tmp_path],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_without_the_library_the_error_says_what_to_build(sparse_bundle: Path, tmp_path: Path) -> None:
    probe = (
        "import sys; from pathlib import Path; from sctool.runtimes.registry import open_session\n"
        "open_session(Path(sys.argv[1]))"
    )
    environment = {**os.environ, "SCTOOL_NATIVE": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", probe, sparse_bundle / "model.pte"], capture_output=True, text=True, env=environment
    )
    last = done.stderr.strip().splitlines()[-1]
    assert NativeRuntimeMissing.__name__ in last and "sctool doctor --build-runtime" in last


def thin_out(model: torch.nn.Module, density: float) -> torch.nn.Module:
    torch.manual_seed(0)
    for parameter in model.parameters():
        if parameter.ndim > 1 and parameter.shape[1] > 3:
            fan_in = parameter[0].numel() * density
            parameter.data = torch.randn(parameter.shape) * (2 / fan_in) ** 0.5
            parameter.data *= torch.rand(parameter.shape) < density
            parameter.data += 0.0
    return fold_batch_norm(model.eval())[0]


@pytest.mark.slow
@pytest.mark.parametrize("values", ["float32", "float16", "int8", "quantised"])
def test_a_residual_network_is_one_payload_and_answers_as_pytorch(
    library: ctypes.CDLL,
    values: str,
) -> None:
    model = thin_out(ResNet18((3, 32, 32), 10, width=0.25), 0.1)
    example = torch.randn(2, 3, 32, 32)
    program = export_sparse_pte(model, example, max_batch=4, costs=load_costs("avx512"), values=values)
    assert len(program.payloads) == 1 and {choice.backend for choice in program.choices} <= {"sparse", "dense"}
    found = PayloadSession(program.payloads[0], library=library).run([example.numpy()])[0]
    expected = model(example).detach().numpy()
    limit = {"float32": 1e-5, "float16": 2e-3, "int8": 5e-2, "quantised": 1e-1}[values]
    assert np.abs(found - expected).max() <= limit * np.abs(expected).max()
    if values == "float32":
        assert len(program.content) < 0.25 * len(export_pte(model, example, max_batch=4).program)


def test_its_programs_take_the_threads_that_a_session_asks_for(sparse_bundle: Path) -> None:
    tasks = Path("/proc/self/task")
    if not tasks.is_dir():
        pytest.skip("no /proc to count threads in")
    path = sparse_bundle / "model.pte"
    x = np.random.default_rng(0).random((5, 64), np.float32)
    first = open_session(path, threads=2)  # makes the runtime's own pool too
    expected = first.run(x)
    before = len(list(tasks.iterdir()))
    second = open_session(path, threads=2)
    assert len(list(tasks.iterdir())) == before + 1, "a worker for the program's one sparse part"
    np.testing.assert_allclose(second.run(x), expected, atol=1e-6)
    np.testing.assert_allclose(open_session(path).run(x), expected, atol=1e-5)


def test_int8_computes_sparse_where_the_target_has_dot_products(
    library: ctypes.CDLL, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = thin_out(Mlp((64,), 10, hidden=(512, 256)), 0.1)
    x = torch.randn(70, 64, generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr(executorch_files, "target_isa", lambda target: "avx512")
    files, backends = executorch_files.write_executorch(
        tmp_path, ExportConfig(precisions=["int8"]), model, x[:2], "", x.numpy(), package=False,
        sparse_for=load_target("host"),
    )  # fmt: skip
    entry, content = files["model.int8.pte"], (tmp_path / "model.int8.pte").read_bytes()
    assert entry.precision == "int8" and BACKEND.encode() in content
    assert (entry.runtime, entry.computes) == ("executorch+sparse", "sparse")
    assert {item.file for item in backends} == {"model.int8.pte"}
    expected, found = model(x).detach().numpy(), open_session(tmp_path / "model.int8.pte").run(x.numpy())
    assert 1e-4 < np.abs(found - expected).max() / np.abs(expected).max() < 0.05


@pytest.mark.slow
def test_layers_that_the_table_gives_to_xnnpack_go_there(library: ctypes.CDLL, tmp_path: Path) -> None:
    """A table that is all for XNNPACK in some kinds: both backends in one program, same answers."""
    from dataclasses import replace

    table = load_costs("avx512")
    rows = {name: row for name, row in table.rows.items() if name not in ("dense_depthwise", "dense_spatial")}
    model = thin_out(MobileNetV2((3, 32, 32), 10, width=0.25), 0.1)
    example = torch.randn(2, 3, 32, 32)
    costs = replace(table, rows=rows, boundary_ns=0.0, boundary_ns_per_float=0.0)
    program = export_sparse_pte(model, example, max_batch=4, costs=costs)
    ways = {choice.kind: choice.backend for choice in program.choices}
    assert ways["depthwise"] == "xnnpack" and ways["pointwise"] != "xnnpack" and len(program.payloads) > 1
    (tmp_path / "model.pte").write_bytes(program.content)
    expected = model(example).detach().numpy()
    np.testing.assert_allclose(open_session(tmp_path / "model.pte").run(example.numpy()), expected, atol=1e-4)


@pytest.mark.parametrize("isa", list_tables())
def test_cost_tables_are_whole(isa: str) -> None:
    table = load_costs(isa)
    assert table.isa == isa and "placeholder" not in table.measured_on
    for way in ("sparse", "dense", "xnnpack"):
        for kind in ("linear", "spatial", "pointwise"):
            assert all(row.ns_per_mac > 0 for row in table.rows[f"{way}_{kind}"])
            assert [row.pixels for row in table.rows[f"{way}_{kind}"]] == sorted(
                {r.pixels for r in table.rows[f"{way}_{kind}"]}
            )
