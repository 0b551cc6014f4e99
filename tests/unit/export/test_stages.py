"""Weights decoded in stages, and stacked: the same weights, in as many passes as there are stages."""

from __future__ import annotations

from math import inf
from pathlib import Path

import numpy as np
import onnx
import onnx_ir
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from sctool.export import assemble, units
from sctool.export.inspect_onnx import inspect_onnx
from sctool.export.onnx import serialise_onnx
from sctool.export.sparsify import Storage, sparsify_onnx
from sctool.export.stages import MAX_STAGES, OPSET, assign_stages, count_stages, fill_stage, price_stage

Array = NDArray[np.float32]
LEVELS = ["ORT_DISABLE_ALL", "ORT_ENABLE_BASIC", "ORT_ENABLE_EXTENDED", "ORT_ENABLE_ALL"]
RULES = ["rows", "rows+split", "rice", "rice+split", "pfor", "gap8", "bitmask", "rows+int8", "rice+codebook16"]
X = np.random.default_rng(9).normal(size=(3, 60)).astype(np.float32)


def make_model(tensors: int = 9, opset: int = 18) -> tuple[onnx.ModelProto, list[Array]]:
    """x @ w summed over weights of different densities, and one of a single value, none of them alike."""
    rng = np.random.default_rng(1)
    shape = (60, 40)
    kept = [rng.normal(size=shape) * (rng.random(shape) < 0.05 + 0.04 * i) + 0.0 for i in range(tensors - 1)]
    last = np.zeros(shape)
    last[7, 11] = 0.3
    weights = [np.asarray(each, np.float32) for each in [*kept, last]]
    nodes = [helper.make_node("MatMul", ["x", f"w{i}"], [f"y{i}"]) for i in range(tensors)]
    nodes.append(helper.make_node("Sum", [f"y{i}" for i in range(tensors)], ["y"]))
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 60])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 40])],
        [numpy_helper.from_array(weight, f"w{i}") for i, weight in enumerate(weights)],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8), weights


def pack(rule: str, stages: int, monkeypatch: pytest.MonkeyPatch, **model: int) -> onnx.ModelProto:
    """The model with its weights stored by `rule`, e.g. "rows+split", and decoded in `stages`; stacked if those are few."""
    monkeypatch.setattr(assemble, "count_stages", lambda left, price: min(stages, len(left)) if price < inf else 1)
    monkeypatch.setattr(units, "STACK_ELEMENTS", 5000 if stages <= 4 else 1)
    codec, _, values = rule.partition("+")
    return sparsify_onnx(make_model(**model)[0], Storage(codec, values or "float32")).proto  # type: ignore[arg-type]


def open_session(model: bytes, level: str = "ORT_ENABLE_ALL", threads: int = 1, save: Path | None = None):  # type: ignore[no-untyped-def]
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = threads
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
    if save is not None:
        options.optimized_model_filepath = str(save)
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("stages", [1, 3, MAX_STAGES])
def test_stages_leave_the_dense_weights_and_no_node(
    rule: str, stages: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    packed = pack(rule, stages, monkeypatch)
    assert sum(node.op_type == "Scan" for node in packed.graph.node) == stages - 1
    stacked = stages <= 4 and not rule.endswith("codebook16")  # whose tables differ
    assert any(node.op_type == "GatherND" for node in packed.graph.node) == stacked
    session = open_session(packed.SerializeToString(), save=tmp_path / "folded.onnx")
    folded = onnx.load(tmp_path / "folded.onnx")
    assert {node.op_type for node in folded.graph.node} <= {"MatMul", "Sum"}
    assert session.get_outputs()[0].shape == ["batch", 40]
    if rule.partition("+")[2] in ("", "split"):
        expected = {f"w{i}": weight.tobytes() for i, weight in enumerate(make_model()[1])}
        found = {t.name: numpy_helper.to_array(t).tobytes() for t in folded.graph.initializer}
        assert {name: found[name] for name in expected} == expected


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("threads", [1, 2])
def test_every_level_answers_as_the_dense_model(level: str, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    dense = open_session(make_model()[0].SerializeToString()).run(None, {"x": X})[0]
    for rule in ("rows+split", "rice"):
        session = open_session(pack(rule, 4, monkeypatch).SerializeToString(), level, threads)
        np.testing.assert_array_equal(session.run(None, {"x": X})[0], dense)


def test_a_stage_is_folded_in_a_pass_of_its_own(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """What the saving of memory rests on: a runtime that folds all at once would still answer right."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 0
    content = pack("rows", 4, monkeypatch).SerializeToString()
    onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    passes = [
        line for line in capfd.readouterr().err.splitlines() if "GraphTransformer ConstantFolding modified: 1" in line
    ]
    assert len(passes) == 4


def test_tools_keep_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    packed = pack("rows+split", 3, monkeypatch)
    path = tmp_path / "m.onnx"
    path.write_bytes(serialise_onnx(packed))
    onnx_ir.save(onnx_ir.load(path), tmp_path / "again.onnx")
    again = (tmp_path / "again.onnx").read_bytes()
    onnx.checker.check_model(again, full_check=True)
    np.testing.assert_array_equal(
        open_session(again).run(None, {"x": X})[0], open_session(packed.SerializeToString()).run(None, {"x": X})[0]
    )


def test_inspection_sees_each_tensor_and_shares_out_its_bytes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(serialise_onnx(pack("rows+split", 3, monkeypatch)))
    found = {layer.name: layer for layer in inspect_onnx(path).layers}
    for number, weight in enumerate(make_model()[1]):
        layer = found[f"w{number}"]
        assert (layer.nnz, layer.shape, layer.codec) == (np.count_nonzero(weight), weight.shape, "rows")
        assert layer.nnz is not None and layer.stored_bytes < 5 * layer.nnz + 600
    assert sum(layer.stored_bytes for layer in found.values()) < path.stat().st_size


@pytest.mark.parametrize("rule", ["rows", "rows+split"])
def test_a_nearly_full_tensor_costs_the_others_nothing(rule: str) -> None:
    """Rows of a common length would have more places than it has elements: it is decoded on its own."""
    model, _ = make_model()
    full = np.random.default_rng(2).normal(size=(60, 40)).astype(np.float32)
    full[:, 5] = 0
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(full, "w0"))
    codec, _, values = rule.partition("+")
    storage = Storage(codec, values or "float32")  # type: ignore[arg-type]
    packed = sparsify_onnx(model, storage)
    np.testing.assert_array_equal(
        open_session(packed.proto.SerializeToString()).run(None, {"x": X})[0],
        open_session(model.SerializeToString()).run(None, {"x": X})[0],
    )
    alone = {}
    for number, weight in enumerate(make_model()[1]):
        single, _ = make_model(1)
        single.graph.initializer[0].CopyFrom(numpy_helper.from_array(full if number == 0 else weight, "w0"))
        alone[f"w{number}"] = sparsify_onnx(single, storage).sizes[0].codec_bytes[rule]
    assert all(layer.stored_bytes <= alone[layer.name] + 40 for layer in packed.layers if layer.codec == "rows")


def test_an_old_opset_has_no_stages(monkeypatch: pytest.MonkeyPatch) -> None:
    packed = pack("rows", 4, monkeypatch, opset=13)
    assert not {"Scan", "Split"} & {node.op_type for node in packed.graph.node}


amounts = st.dictionaries(st.text("abcdef", min_size=1, max_size=3), st.floats(0, 1e9), min_size=1, max_size=30)


@given(amounts, st.integers(1, MAX_STAGES))
def test_stages_are_about_as_full_and_the_fullest_is_first(left: dict[str, float], stages: int) -> None:
    assigned = assign_stages(left, stages)
    assert assigned.keys() == left.keys() and set(assigned.values()) <= set(range(stages))
    filled = [sum(left[t] for t, stage in assigned.items() if stage == number) for number in range(stages)]
    assert filled[0] == max(filled)
    amount = sum(left.values())
    assert fill_stage(list(left.values()), stages) <= filled[0] + 1e-3
    assert filled[0] <= amount / stages + max(left.values()) + 1e-3  # Graham 1966, of any list


def test_small_models_have_one_stage() -> None:
    price = price_stage(300, OPSET)
    assert count_stages([], price) == count_stages([1e5] * 20, price) == 1
    assert count_stages([2e6] * 20, price) == 3 and count_stages([1e8] * 3, price) == 3
    assert count_stages([1e8] * 30, price) == MAX_STAGES
    assert count_stages([1e8] * 30, price_stage(300, OPSET - 1)) == 1
