"""Sparse storage: lossless to the bit, executed by a real ONNX Runtime, folded away when a session is made."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from numpy.typing import NDArray
from onnx import TensorProto, helper

from sctool.export.codecs.gap8 import decode_gaps, encode_gaps
from sctool.export.codecs.registry import CODECS
from sctool.export.onnx import sparsify_onnx

Vector = NDArray[np.float32]
any_float32 = st.integers(0, 2**32 - 1).map(lambda bits: np.array([bits], np.uint32).view(np.float32)[0])


def same_bits(a: Vector, b: Vector) -> bool:
    return a.shape == b.shape and bool((a.view(np.uint32) == b.view(np.uint32)).all())


def run_encoded(name: str, tensor: Vector, folder: Path | None = None) -> Vector:
    """Encode, put an Identity after it, and let ONNX Runtime give the tensor back."""
    encoded = CODECS[name].encode("w", tensor)
    node = helper.make_node("Identity", ["w"], ["out"])
    graph = helper.make_graph(
        [*encoded.nodes, node], "g", [], [helper.make_tensor_value_info("out", TensorProto.FLOAT, list(tensor.shape))],
        encoded.initialisers,
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    if folder is not None:
        options.optimized_model_filepath = str(folder / "optimised.onnx")
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {})[0])


@given(npst.arrays(np.float32, st.integers(1, 1500), elements=any_float32, fill=st.just(np.float32(0))))
def test_gaps_round_trip_bit_for_bit(flat: Vector) -> None:
    gaps, values = encode_gaps(flat)
    assert gaps.dtype == np.uint8 and len(gaps) == len(values) >= 1
    assert same_bits(decode_gaps(gaps, values, len(flat)), flat)


@pytest.mark.parametrize("distance", [1, 254, 255, 256, 509, 510, 511, 512, 65535, 65536, 65537, 200_000])
@pytest.mark.parametrize("start", [0, 1, 255, 256])
def test_long_gaps(distance: int, start: int) -> None:
    flat = np.zeros(start + distance + 2, np.float32)
    flat[[start, start + distance]] = [1.5, -2.5]
    gaps, values = encode_gaps(flat)
    assert same_bits(decode_gaps(gaps, values, len(flat)), flat)
    assert len(gaps) <= 2 + start // 255 + distance // 255


@pytest.mark.parametrize("name", CODECS)
@pytest.mark.parametrize("shape", [(7,), (40, 30), (8, 4, 3, 3), (70_000,)])
@pytest.mark.parametrize("density", [0.0, 0.001, 0.1, 1.0])
def test_onnx_runtime_gives_the_tensor_back(name: str, shape: tuple[int, ...], density: float) -> None:
    rng = np.random.default_rng(0)
    tensor = (rng.normal(size=shape) * (rng.random(shape) < density)).astype(np.float32)
    assert same_bits(run_encoded(name, tensor), tensor)


def test_onnx_runtime_unfolds_when_the_session_is_made(tmp_path: Path) -> None:
    """The claim that running costs what the dense model costs: no scatter is left in the optimised graph."""
    tensor = np.zeros((64, 64), np.float32)
    tensor[3, 5] = 1
    run_encoded("gap8", tensor, tmp_path)
    left = {node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node}
    assert not left & {"ScatterElements", "CumSum", "Cast", "ConstantOfShape", "Reshape"}


def make_model(weight: Vector) -> onnx.ModelProto:
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])], "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, weight.shape[0]])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, weight.shape[1]])],
        [onnx.numpy_helper.from_array(weight, "w")],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def test_sparsify_takes_the_smaller_codec_and_leaves_the_source_alone() -> None:
    rng = np.random.default_rng(0)
    dense = rng.normal(size=(64, 64)).astype(np.float32)
    for density, expected in ((0.05, "gap8"), (0.79, "gap8"), (0.82, "dense"), (1.0, "dense")):
        weight = dense.copy().reshape(-1)
        weight[rng.permutation(weight.size)[int(density * weight.size) :]] = 0
        model = make_model(weight.reshape(64, 64))
        before = model.SerializeToString()
        sparse, records = sparsify_onnx(model, "auto")
        assert model.SerializeToString() == before
        assert [record.codec for record in records] == [expected]
        assert records[0].stored_bytes <= records[0].dense_bytes + 40
        assert records[0].nnz == np.count_nonzero(weight)
        x = rng.normal(size=(3, 64)).astype(np.float32)
        answers = [
            onnxruntime.InferenceSession(m.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, {"x": x})[
                0
            ]
            for m in (model, sparse)
        ]
        np.testing.assert_array_equal(*answers)


def test_small_tensors_stay_dense() -> None:
    _, records = sparsify_onnx(make_model(np.zeros((8, 8), np.float32)), "gap8")
    assert records[0].codec == "dense"
