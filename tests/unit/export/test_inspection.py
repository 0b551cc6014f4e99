"""What inspect finds is counted here again from the tensors; whoever wrote the file, and whatever is wrong with it."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from sctool.errors import ArtifactError
from sctool.export import count_constants
from sctool.export.inspect_onnx import inspect_onnx
from sctool.export.inspection import Inspection, count_nonzeros
from sctool.export.sparsify import sparsify_onnx
from sctool.formats.spte import is_spte
from sctool.workflows.inspect import inspect_path

SEEDS = Path(__file__).resolve().parents[3] / "fuzz" / "corpus"
Matrix = NDArray[np.float32]


def make_weight(density: float = 0.1) -> Matrix:
    rng = np.random.default_rng(0)
    return np.where(rng.random((60, 50)) < density, rng.normal(size=(60, 50)), 0).astype(np.float32)


def write_model(
    path: Path, nodes: list[onnx.NodeProto], initialisers: list[TensorProto] | None = None, **extra: object
) -> Path:
    """y = x @ w; `nodes` and `initialisers` make w."""
    graph = helper.make_graph(
        [*nodes, helper.make_node("MatMul", ["x", "w"], ["y"], "last")], "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 60])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 50])], initialisers or [], **extra,
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    path.write_bytes(model.SerializeToString())
    return path


def only_layer(found: Inspection) -> tuple[str, int | None, float | None, str, str]:
    (layer,) = found.layers
    return layer.name, layer.nnz, layer.density, layer.codec, layer.rule


@pytest.mark.parametrize("codec", ["gap8", "rice", "pfor", "rows", "bitmask", "auto"])
def test_our_sparse_storage_is_recognised(tmp_path: Path, codec: str) -> None:
    weight = make_weight()
    dense = write_model(tmp_path / "dense.onnx", [], [numpy_helper.from_array(weight, "w")])
    packed = sparsify_onnx(onnx.load(dense), codec)
    (tmp_path / "sparse.onnx").write_bytes(packed.proto.SerializeToString())
    nnz = int(np.count_nonzero(weight))
    before, after = inspect_onnx(dense), inspect_onnx(tmp_path / "sparse.onnx")
    assert only_layer(before) == ("w", nnz, nnz / weight.size, "dense", "ort-dense")
    assert only_layer(after) == ("w", nnz, nnz / weight.size, packed.layers[0].codec, "ort-constant-folding")
    assert after.layers[0].shape == (60, 50) and after.layers[0].role == "MatMul weight"
    assert after.layers[0].stored_bytes < 0.2 * before.layers[0].stored_bytes == 0.2 * weight.nbytes
    assert [(port.name, port.shape) for port in after.inputs] == [("x", ("n", 60))]


def test_sparse_storage_of_others_is_recognised(tmp_path: Path) -> None:
    """A mask of bytes and the values, put in place by nodes that we never write."""
    weight = make_weight()
    values = weight[weight != 0]
    path = write_model(
        tmp_path / "other.onnx",
        [
            helper.make_node("Expand", ["zero", "shape"], ["zeros"]), helper.make_node("NonZero", ["mask"], ["where"]),
            helper.make_node("Transpose", ["where"], ["places"]),
            helper.make_node("ScatterND", ["zeros", "places", "values"], ["w"]),
        ],
        [
            numpy_helper.from_array(weight != 0, "mask"), numpy_helper.from_array(values, "values"),
            numpy_helper.from_array(np.zeros(1, np.float32), "zero"),
            numpy_helper.from_array(np.array([60, 50], np.int64), "shape"),
        ],
    )  # fmt: skip
    name, nnz, _, codec, _ = only_layer(inspect_onnx(path))
    assert (name, nnz) == ("w", len(values)) and codec.startswith("decoded by ")


def test_the_standards_own_sparse_initialisers(tmp_path: Path) -> None:
    weight = make_weight()
    places = np.flatnonzero(weight).astype(np.int64)
    values = helper.make_tensor("w", TensorProto.FLOAT, [len(places)], weight.reshape(-1)[places])
    indices = helper.make_tensor("", TensorProto.INT64, [len(places)], places)
    sparse = helper.make_sparse_tensor(values, indices, [60, 50])
    found = inspect_onnx(write_model(tmp_path / "coo.onnx", [], sparse_initializer=[sparse]))
    assert only_layer(found) == ("w", len(places), len(places) / 3000, "coo", "ort-sparse-initialiser")


def test_quantised_weights_are_dense_and_said_to_be(tmp_path: Path) -> None:
    whole = np.round(make_weight() * 20).astype(np.int8)
    path = write_model(
        tmp_path / "int8.onnx", [helper.make_node("DequantizeLinear", ["q", "s"], ["w"])],
        [numpy_helper.from_array(whole, "q"), numpy_helper.from_array(np.float32(0.05), "s")],
    )  # fmt: skip
    name, nnz, _, _, rule = only_layer(inspect_onnx(path))
    assert (name, nnz, rule) == ("w", int(np.count_nonzero(whole)), "ort-quantised-dense")


def make_external(tmp_path: Path, location: str) -> Path:
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[60, 50], data_location=TensorProto.EXTERNAL)
    for key, value in (("location", location), ("offset", "64"), ("length", "12000")):
        tensor.external_data.add(key=key, value=value)
    return write_model(tmp_path / "external.onnx", [], [tensor])


def test_external_data_beside_the_model_are_counted_and_no_others(tmp_path: Path) -> None:
    folder = tmp_path / "models"
    folder.mkdir()
    weight = make_weight()
    content = b"\1" * 64 + weight.tobytes()
    (folder / "weights.bin").write_bytes(content)
    (tmp_path / "outside.bin").write_bytes(content)
    (folder / "link.bin").symlink_to(tmp_path / "outside.bin")
    assert inspect_onnx(make_external(folder, "weights.bin")).layers[0].nnz == int(np.count_nonzero(weight))
    for location in ("../outside.bin", "/etc/passwd", "link.bin", "absent.bin", ""):
        layer = inspect_onnx(make_external(folder, location)).layers[0]
        assert layer.nnz is None and "not a file beside the model" in layer.note
    (folder / "weights.bin").write_bytes(content[:-1])
    assert inspect_onnx(make_external(folder, "weights.bin")).layers[0].nnz is None


def test_nodes_that_want_all_memory_end_the_process_that_evaluates_and_nothing_else(tmp_path: Path) -> None:
    shape = numpy_helper.from_array(np.array([2**20, 2**20], np.int64), "shape")
    path = write_model(tmp_path / "bomb.onnx", [helper.make_node("ConstantOfShape", ["shape"], ["w"])], [shape])
    began = time.monotonic()
    found = inspect_onnx(path)
    assert time.monotonic() - began < 60
    assert [layer.nnz for layer in found.layers] in ([], [None])


def test_a_process_that_does_not_end_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weight = numpy_helper.from_array(make_weight(), "v")
    path = write_model(tmp_path / "slow.onnx", [helper.make_node("Neg", ["v"], ["w"])], [weight])
    monkeypatch.setattr(count_constants, "SECONDS", 0.01)
    assert count_constants.count_constants(path, ["w"]) == {}
    assert inspect_onnx(path).layers[0].nnz is None


def test_loops_are_not_run(tmp_path: Path) -> None:
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["again"]), helper.make_node("Identity", ["v"], ["out"])], "body",
        [helper.make_tensor_value_info("i", TensorProto.INT64, []),
         helper.make_tensor_value_info("go", TensorProto.BOOL, []),
         helper.make_tensor_value_info("v", TensorProto.FLOAT, [60, 50])],
        [helper.make_tensor_value_info("again", TensorProto.BOOL, []),
         helper.make_tensor_value_info("out", TensorProto.FLOAT, [60, 50])],
    )  # fmt: skip
    path = write_model(
        tmp_path / "loop.onnx", [helper.make_node("Loop", ["", "go", "v"], ["w"], body=body)],
        [numpy_helper.from_array(np.array(True), "go"), numpy_helper.from_array(make_weight(), "v")],
    )  # fmt: skip
    found = inspect_onnx(path)
    assert [(layer.name, layer.role) for layer in found.layers] == [("v", "Loop constant")]


@given(data=st.data())
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_damaged_onnx_is_told_or_inspected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: st.DataObject
) -> None:
    monkeypatch.setattr("sctool.export.inspect_onnx.count_constants", lambda path, names: {})
    content = bytearray((SEEDS / "onnx" / "sparse.onnx").read_bytes())
    for _ in range(data.draw(st.integers(1, 5))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    (tmp_path / "m.onnx").write_bytes(content)
    try:
        found = inspect_onnx(tmp_path / "m.onnx")
    except ArtifactError:
        return
    assert all(layer.nnz is None or layer.nnz >= 0 for layer in found.layers)


@pytest.mark.parametrize("path", sorted(SEEDS.glob("*pt*/*")), ids=lambda path: path.name)
def test_executorch_files(path: Path) -> None:
    """The seeds are one model: a layer of 90 x 12 with one weight in ten, one of 3 x 90 that is dense."""
    found = inspect_path(path)
    layers = {layer.shape: layer for layer in found.layers}
    if path.suffix == ".ptd":
        assert sum(layer.stored_bytes for layer in found.layers) < path.stat().st_size == found.size_bytes
        return
    assert set(layers) == {(90, 12), (90,), (3, 90), (3,)}
    if "apart" in path.stem:
        assert all(layer.nnz is None and layer.codec == "elsewhere" for layer in found.layers)
        assert any("does not run by itself" in note for note in found.notes)
        return
    assert 60 < (layers[90, 12].nnz or 0) < 150 and layers[90, 12].role == "linear weight"
    assert (layers[3, 90].density or 0) > 0.9
    sparse = is_spte(path.read_bytes())
    assert layers[90, 12].codec.startswith("rice") == sparse
    assert [item.rule.name for item in found.runtimes] == [
        "package-unpacked-at-load" if sparse else "xnnpack-dense-constants"
    ]
    assert found.inputs[0].shape == ("<= 4", 12)


def test_a_program_is_inspected_with_the_data_file_beside_it(tmp_path: Path) -> None:
    (tmp_path / "m.pte").write_bytes((SEEDS / "pte" / "float32_apart.pte").read_bytes())
    (tmp_path / "m.ptd").write_bytes((SEEDS / "ptd" / "float32.ptd").read_bytes())
    together, within = inspect_path(tmp_path / "m.pte"), inspect_path(SEEDS / "pte" / "float32.pte")
    assert [layer.nnz for layer in together.layers] == [layer.nnz for layer in within.layers]


@given(
    st.lists(st.sampled_from([0.0, -0.0, 1.5, -2.0, float("nan")])), st.sampled_from(["float32", "float16", "float64"])
)
def test_negative_zeros_are_zeros(values: list[float], dtype: str) -> None:
    array = np.array(values, dtype)
    assert count_nonzeros(array.tobytes(), dtype) == int((array != 0).sum())


def test_what_is_too_large_or_of_no_kind_is_refused(tmp_path: Path) -> None:
    large = tmp_path / "large.onnx"
    with large.open("wb") as stream:
        stream.truncate(2**31 + 1)  # a hole: it takes no room
    with pytest.raises(ArtifactError, match="the limit is"):
        inspect_path(large)
    (tmp_path / "text.txt").write_text("hello")
    with pytest.raises(ArtifactError, match="no model known here"):
        inspect_path(tmp_path / "text.txt")
    with pytest.raises(ArtifactError, match="No file or bundle"):
        inspect_path(tmp_path / "absent")
