"""Tensors that are stored as one, and tables that keep the axes that decoding gives them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from sctool.export.codecs.codec import Quantised
from sctool.export.codecs.encode import describe_kin
from sctool.export.codecs.registry import POSITIONS, VALUES
from sctool.export.inspect_onnx import inspect_onnx
from sctool.export.onnx import serialise_onnx
from sctool.export.sparsify import Storage, sparsify_onnx
from sctool.export.units import STACK, STACK_ELEMENTS, find_tables, form_units

IDS = np.array([[3, 0, 299], [7, 7, 150]], np.int64)
shapes = st.lists(st.integers(1, 12), min_size=1, max_size=4).map(tuple)
kinds = st.tuples(shapes, st.floats(0, 1), st.sampled_from(sorted(VALUES)))


def draw(shape: tuple[int, ...], density: float, seed: int = 0) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    return np.asarray(rng.normal(size=shape) * (rng.random(shape) < density) + 0.0, dtype=np.float32)


def quantise(tensor: NDArray[np.float32], values: str) -> Quantised:
    found = VALUES[values].quantise(tensor)
    assert found is not None
    return found


def make_model(axis: int | None = None, more: tuple[onnx.NodeProto, ...] = ()) -> onnx.ModelProto:
    """ids -> looked up in a table, through two matrices that are alike and one that is not."""
    given = {} if axis is None else {"axis": axis}
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["x"], "embed", **given),
        helper.make_node("MatMul", ["x", "a"], ["xa"]), helper.make_node("MatMul", ["xa", "b"], ["xb"]),
        helper.make_node("MatMul", ["xb", "c"], ["y"]), *more,
    ]  # fmt: skip
    tensors = {"table": draw((300, 40), 0.1), "a": draw((40, 40), 0.2, 1), "b": draw((40, 40), 0.2, 2)}
    tensors["c"] = draw((40, 30), 0.2, 3)
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("ids", TensorProto.INT64, ["batch", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 3, 30])],
        [numpy_helper.from_array(each, name) for name, each in tensors.items()],
        value_info=[helper.make_tensor_value_info("table", TensorProto.FLOAT, [300, 40])],  # as PyTorch's exporter has it
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def open_session(model: onnx.ModelProto, level: str, save: Path | None = None) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
    if save is not None:
        options.optimized_model_filepath = str(save)
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


@settings(deadline=None)
@given(st.lists(kinds, max_size=12), st.sets(st.integers(0, 11)))
def test_units_hold_every_tensor_once_and_stacks_those_that_are_alike(
    drawn: list[tuple[tuple[int, ...], float, str]], looked_up: set[int]
) -> None:
    quantised = {f"w{i}": quantise(draw(shape, density, i), values) for i, (shape, density, values) in enumerate(drawn)}
    values = {f"w{i}": VALUES[kind[2]] for i, kind in enumerate(drawn)}
    tables = {f"w{i}" for i in looked_up} & quantised.keys()
    units = form_units(quantised, values, tables)
    members = [tensor for unit in units for tensor in unit.members]
    assert sorted(members) == sorted(quantised) and len({unit.name for unit in units}) == len(units)
    for unit in units:
        first = next(iter(unit.members))
        assert all(unit.members[tensor] is quantised[tensor] for tensor in unit.members)
        assert unit.framed == (first in tables and quantised[first].codes.ndim in (2, 3))
        assert unit.elements == sum(quantised[tensor].codes.size for tensor in unit.members)
        if len(unit.members) == 1:
            assert unit.name == first
            continue
        assert unit.name.startswith(STACK) and unit.elements <= STACK_ELEMENTS and not tables & unit.members.keys()
        kin = {(describe_kin(quantised[tensor]), values[tensor].name) for tensor in unit.members}
        assert len(kin) == 1 and (None, unit.values.name) not in kin
        stored = unit.stored
        assert 0 < max(stored.values()) <= 2.01 * min(stored.values())  # one power of two of density


def test_large_tensors_are_stacked_no_further(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sctool.export.units.STACK_ELEMENTS", 35)
    quantised = {f"w{i}": quantise(np.ones((2, 5), np.float32), "float32") for i in range(5)}
    units = form_units(quantised, dict.fromkeys(quantised, VALUES["float32"]), set())
    assert [list(unit.members) for unit in units] == [["w0", "w1", "w2"], ["w3", "w4"]]
    assert [unit.name for unit in units] == ["stack/2x5/0", "stack/2x5/1"]


def test_a_stack_takes_no_name_that_a_tensor_has() -> None:
    names = ["stack/2x5/0", "w"]
    quantised = {name: quantise(np.ones((2, 5), np.float32), "float32") for name in names}
    (unit,) = form_units(quantised, dict.fromkeys(quantised, VALUES["float32"]), set())
    assert unit.name == "stack/2x5/1"


def test_a_table_is_read_by_nothing_else() -> None:
    assert find_tables(make_model().graph) == {"table"}
    assert find_tables(make_model(axis=0).graph) == {"table"}
    assert not find_tables(make_model(axis=1).graph)
    assert not find_tables(make_model(more=(helper.make_node("Neg", ["table"], ["z"]),)).graph)
    assert not find_tables(make_model(more=(helper.make_node("Gather", ["a", "table"], ["z"]),)).graph)
    answered = make_model()
    answered.graph.output.append(helper.make_tensor_value_info("table", TensorProto.FLOAT, [300, 40]))
    assert not find_tables(answered.graph)
    body = helper.make_graph([helper.make_node("Identity", ["table"], ["t"])], "b", [],
                             [helper.make_tensor_value_info("t", TensorProto.FLOAT, None)])  # fmt: skip
    branch = helper.make_node("If", ["on"], ["z"], then_branch=body, else_branch=body)
    assert not find_tables(make_model(more=(branch,)).graph)


@pytest.mark.parametrize("rule", ["auto", "small", "fast", "ort", *POSITIONS])
@pytest.mark.parametrize("values", ["float32", "split", "int8", "float16"])
def test_every_rule_answers_as_the_dense_model(rule: str, values: str, tmp_path: Path) -> None:
    dense = make_model()
    packed = sparsify_onnx(dense, Storage(rule, values))  # type: ignore[arg-type]
    stored = {layer.name: layer for layer in packed.layers}
    assert set(stored) == {"table", "a", "b", "c"}
    level = "ORT_ENABLE_ALL"
    expected = open_session(dense, level).run(None, {"ids": IDS})[0]
    session = open_session(packed.proto, level, tmp_path / "folded.onnx")
    found = session.run(None, {"ids": IDS})[0]
    assert found.shape == expected.shape == (2, 3, 30)
    if values in ("float32", "split"):
        np.testing.assert_array_equal(found, expected)
    else:
        np.testing.assert_allclose(found, expected, atol=0.05 * np.abs(expected).max())
    np.testing.assert_array_equal(open_session(packed.proto, "ORT_DISABLE_ALL").run(None, {"ids": IDS})[0], found)
    left = {node.op_type for node in onnx.load(tmp_path / "folded.onnx").graph.node}
    assert left <= {"Gather", "MatMul", "Squeeze"} | ({"Mul", "Cast"} if rule in ("ort", "coo") else set())
    framed = any(node.op_type == "Squeeze" for node in packed.proto.graph.node)
    assert framed == (stored["table"].codec not in ("dense", "coo"))
    stacked = any(node.op_type == "GatherND" for node in packed.proto.graph.node)
    assert stacked == (stored["a"].codec not in ("dense", "coo"))


def test_members_share_the_bytes_of_their_stack(tmp_path: Path) -> None:
    packed = sparsify_onnx(make_model(), "rows")
    path = tmp_path / "m.onnx"
    path.write_bytes(serialise_onnx(packed.proto))
    written = {layer.name: layer for layer in packed.layers}
    found = {layer.name: layer for layer in inspect_onnx(path).layers}
    for name in ("a", "b"):
        assert (found[name].codec, found[name].nnz, found[name].shape) == ("rows", written[name].nnz, (40, 40))
        sizes = next(each for each in packed.sizes if each.name == name)
        assert sizes.codec_bytes["rows"] == written[name].stored_bytes
    assert set(found) == set(written)
    table = found["table"]
    assert (table.codec, table.nnz, table.shape) == ("rows", written["table"].nnz, (300, 40))
    assert sum(layer.stored_bytes for layer in written.values()) < path.stat().st_size


def test_old_opsets_have_neither() -> None:
    old = make_model()
    old.opset_import[0].version = 12
    packed = sparsify_onnx(old, "rows")
    assert not {"GatherND", "Squeeze"} & {node.op_type for node in packed.proto.graph.node}
    expected = open_session(old, "ORT_ENABLE_ALL").run(None, {"ids": IDS})[0]
    np.testing.assert_array_equal(open_session(packed.proto, "ORT_ENABLE_ALL").run(None, {"ids": IDS})[0], expected)
