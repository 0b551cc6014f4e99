"""Passes over dense graphs: the same answers on random small networks, no more non-zeros, and what must not go stays."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper
from torch import Tensor, nn

from sctool.errors import ExportError
from sctool.export.onnx import export_onnx
from sctool.export.passes.batch_norm import fold_batch_norm
from sctool.export.passes.dead_channels import RemoveDeadChannels
from sctool.export.passes.flops import count_flops
from sctool.export.passes.graph_pass import run_passes
from sctool.export.passes.registry import PASSES


class GraphBuilder:
    """Grows a chain of ONNX nodes with random weights, of which `dead` of the channels are zero."""

    def __init__(self, rng: np.random.Generator, shape: tuple[int, ...], dead: float) -> None:
        self.rng, self.dead, self.shape = rng, dead, shape
        self.nodes: list[onnx.NodeProto] = []
        self.tensors: list[onnx.TensorProto] = []
        self.value = "input"

    def weight(self, *shape: int, dead: bool = True) -> str:
        array = self.rng.normal(size=shape).astype(np.float32)
        array[self.rng.random(shape) < 0.4] = 0
        if dead:
            array[self.rng.random(shape[0]) < self.dead] = 0
            if len(shape) > 1:
                array[:, self.rng.random(shape[1]) < self.dead / 2] = 0
        self.tensors.append(numpy_helper.from_array(array, f"t{len(self.tensors)}"))
        return self.tensors[-1].name

    def add(self, kind: str, *more: str, **attributes: Any) -> None:
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, [self.value, *more], [name], f"n{len(self.nodes)}", **attributes))
        self.value = name

    def grow(self, kind: str) -> None:
        channels = self.shape[0]
        if len(self.shape) == 3:
            height, width = self.shape[1:]
            if kind in ("conv", "padded"):
                out, pad = int(self.rng.integers(2, 7)), int(kind == "padded")
                if min(height, width) + 2 * pad < 3:
                    return
                self.add("Conv", self.weight(out, channels, 3, 3), self.weight(out, dead=False), pads=[pad] * 4)
                self.shape = (out, height + 2 * pad - 2, width + 2 * pad - 2)
            elif kind == "depthwise":
                self.add("Conv", self.weight(channels, 1, 3, 3), self.weight(channels, dead=False), pads=[1] * 4,
                         group=channels)  # fmt: skip
            elif kind == "residual":
                before = self.value
                self.add("Conv", self.weight(channels, channels, 1, 1))
                self.add("Add", before)
            elif kind == "pool" and min(height, width) >= 2:
                pool = str(self.rng.choice(["MaxPool", "AveragePool"]))
                self.add(pool, kernel_shape=[2, 2], strides=[2, 2])
                self.shape = (channels, height // 2, width // 2)
            elif kind == "flatten":
                self.add("Flatten")
                self.shape = (channels * height * width,)
        elif kind == "matmul":
            out = int(self.rng.integers(2, 9))
            self.add("MatMul", self.weight(channels, out))
            self.add("Add", self.weight(out, dead=False))
            self.shape = (out,)
        elif kind == "gemm":
            out = int(self.rng.integers(2, 9))
            self.add("Gemm", self.weight(out, channels), self.weight(out, dead=False), transB=1)
            self.shape = (out,)
        if kind in ("Relu", "Sigmoid", "Tanh", "HardSwish"):
            self.add(kind)
        elif kind == "scale":
            tail = (1,) * (len(self.shape) - 1)
            self.add("Mul", self.weight(self.shape[0], *tail))

    def finish(self, shape: tuple[int, ...]) -> onnx.ModelProto:
        if len(self.shape) == 3:
            self.grow("flatten")
        self.grow("gemm")
        self.nodes[-1].output[0] = "logits"
        graph = helper.make_graph(
            self.nodes, "g", [helper.make_tensor_value_info("input", onnx.TensorProto.FLOAT, ["N", *shape])],
            [helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, ["N", self.shape[0]])], self.tensors,
        )  # fmt: skip
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
        return onnx.shape_inference.infer_shapes(model)


PARTS = [
    "conv", "padded", "depthwise", "residual", "pool", "flatten", "gemm", "matmul", "scale", "Relu", "Sigmoid", "Tanh",
    "HardSwish",
]  # fmt: skip


def answer(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"input": x})[0])


def count_nonzeros(model: onnx.ModelProto) -> int:
    return sum(int(np.count_nonzero(numpy_helper.to_array(t))) for t in model.graph.initializer if t.data_type == 1)


@settings(max_examples=80, deadline=None)
@given(
    parts=st.lists(st.sampled_from(PARTS), min_size=2, max_size=8), seed=st.integers(0, 2**32 - 1),
    flat=st.booleans(), dead=st.sampled_from([0.0, 0.3, 0.6, 1.0]),
)  # fmt: skip
def test_passes_keep_the_answers_of_random_networks(parts: list[str], seed: int, flat: bool, dead: float) -> None:
    rng = np.random.default_rng(seed)
    shape = (int(rng.integers(2, 9)),) if flat else (int(rng.integers(1, 4)), 7, 6)
    builder = GraphBuilder(rng, shape, dead)
    for part in parts:
        builder.grow(part)
    model = builder.finish(shape)
    x = rng.normal(size=(3, *shape)).astype(np.float32)
    after, records = run_passes(model, list(PASSES.values()), x)
    other = rng.normal(size=(2, *shape)).astype(np.float32) * 3
    expected = answer(model, other)
    np.testing.assert_allclose(answer(after, other), expected, atol=1e-5 * max(1, np.abs(expected).max()))
    assert [record.name for record in records] == list(PASSES) and not any(record.note for record in records)
    assert sum(record.nonzeros_removed for record in records) == count_nonzeros(model) - count_nonzeros(after) >= 0
    assert sum(record.flops_removed for record in records) == count_flops(model) - count_flops(after) >= 0


def chain(kinds: list[str], kill: str, bias: float = 0.0) -> tuple[onnx.ModelProto, np.ndarray]:
    """conv -> `kinds` -> conv, with channel 1 of the first conv dead."""
    first = np.random.default_rng(0).normal(size=(4, 2, 3, 3)).astype(np.float32)
    second = np.random.default_rng(1).normal(size=(3, 4, 3, 3)).astype(np.float32)
    offsets = np.array([0.1, bias, 0.3, 0.4], np.float32)
    if kill == "filter":
        first[1] = 0
    else:
        second[:, 1] = 0
    pads = [1] * 4 if "padded" in kinds else [0] * 4
    nodes = [helper.make_node("Conv", ["input", "a", "b"], ["v0"], "first")]
    for number, kind in enumerate(kind for kind in kinds if kind != "padded"):
        nodes.append(helper.make_node(kind, [f"v{number}"], [f"v{number + 1}"]))
    nodes.append(helper.make_node("Conv", [nodes[-1].output[0], "c"], ["logits"], "second", pads=pads))
    tensors = [numpy_helper.from_array(array, name) for name, array in (("a", first), ("b", offsets), ("c", second))]
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("input", onnx.TensorProto.FLOAT, ["N", 2, 8, 8])],
        [helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, ["N", 3, "H", "W"])], tensors,
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    return model, np.random.default_rng(2).normal(size=(2, 2, 8, 8)).astype(np.float32)


@pytest.mark.parametrize(
    ("kinds", "kill", "bias", "goes"),
    [
        (["Relu"], "filter", 0.0, True), (["Relu"], "filter", 0.7, True), (["Sigmoid"], "filter", 0.0, True),
        (["Relu", "padded"], "filter", 0.0, True), (["Relu", "padded"], "filter", -0.7, True),
        (["Relu", "padded"], "filter", 0.7, False), (["Sigmoid", "padded"], "filter", 0.0, False),
        (["Relu", "padded"], "reader", 0.7, True), (["Sigmoid"], "reader", 0.0, True),
    ],
)  # fmt: skip
def test_which_channels_go(kinds: list[str], kill: str, bias: float, goes: bool) -> None:
    model, x = chain(kinds, kill, bias)
    after, (record,) = run_passes(model, [RemoveDeadChannels()], x)
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in after.graph.initializer}
    assert arrays["a"].shape == ((3 if goes else 4), 2, 3, 3) and arrays["c"].shape[1] == len(arrays["a"])
    assert (record.flops_removed > 0) == goes and (record.bytes_removed > 0) == goes
    np.testing.assert_allclose(answer(after, x), answer(model, x), atol=1e-5)


def test_a_residual_add_blocks() -> None:
    model, x = chain(["Relu"], "filter")
    model.graph.node.insert(2, helper.make_node("Add", ["v1", "v1"], ["sum"]))
    model.graph.node[3].input[0] = "sum"
    after, _ = run_passes(model, [RemoveDeadChannels()], x)
    assert after.SerializeToString() == model.SerializeToString()


class _Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6), nn.ReLU())
        self.inside = nn.Sequential(
            nn.Conv2d(6, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU6(),
            nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.Hardswish(), nn.Conv2d(8, 6, 1),
        )  # fmt: skip
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        answer: Tensor = self.head(x + self.inside(x))
        return answer


def test_a_network_from_pytorch_shrinks() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = _Residual()
        model(torch.randn(16, 1, 8, 8))
        with torch.no_grad():
            model.inside[0].weight[[1, 4]] = 0.0  # type: ignore[index]
            model.inside[1].bias[[1, 4]] = -1.0  # type: ignore[index]
            model.inside[3].bias[[1, 4]] = 0.0  # type: ignore[index]
            model.head[2].weight[2] = 0.0  # type: ignore[index]
            model.head[4].weight[:, 3] = 0.0  # type: ignore[index]
            model.stem[0].weight[0] = 0.0  # type: ignore[index]
        x = torch.randn(4, 1, 8, 8)
        expected = model.eval()(x).detach().numpy()
        folded, _ = fold_batch_norm(model)
    proto = export_onnx(folded, x[:2], max_batch=64)
    after, records = run_passes(proto, list(PASSES.values()), x.numpy())
    shapes = {tuple(tensor.dims) for tensor in after.graph.initializer}
    assert {(6, 1, 3, 3), (6, 6, 3, 3), (6, 6, 1, 1), (3, 6), (3, 3)} <= shapes
    np.testing.assert_allclose(answer(after, x.numpy()), expected, atol=1e-5)
    assert next(record for record in records if record.name == "remove_dead_channels").flops_removed > 0


def test_equal_initialisers_are_shared_and_constants_folded() -> None:
    weight = np.random.default_rng(0).normal(size=(40, 40)).astype(np.float32)
    nodes = [
        helper.make_node("Transpose", ["a"], ["at"]), helper.make_node("MatMul", ["input", "at"], ["h"]),
        helper.make_node("Relu", ["h"], ["r"]), helper.make_node("MatMul", ["r", "b"], ["logits"]),
    ]  # fmt: skip
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "g", [value("input", 1, ["N", 40])], [value("logits", 1, ["N", 40])],
        [numpy_helper.from_array(weight, "a"), numpy_helper.from_array(np.ascontiguousarray(weight.T), "b")],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    after, _ = run_passes(model, list(PASSES.values()), weight[:2])
    assert [node.op_type for node in after.graph.node] == ["MatMul", "Relu", "MatMul"]
    assert len(after.graph.initializer) == 1


class _Wrong:
    name = "wrong"

    def __init__(self, factor: float) -> None:
        self._factor = factor

    def refuses(self, model: onnx.ModelProto) -> str:
        return ""

    def breaks(self, before: onnx.ModelProto, after: onnx.ModelProto) -> str:
        return ""

    def apply(self, model: onnx.ModelProto) -> onnx.ModelProto:
        after = onnx.ModelProto()
        after.CopyFrom(model)
        array = numpy_helper.to_array(after.graph.initializer[0]) * np.float32(self._factor)
        after.graph.initializer[0].CopyFrom(numpy_helper.from_array(array, after.graph.initializer[0].name))
        return after


def test_the_caller_holds_a_pass_to_its_word() -> None:
    model, x = chain(["Relu"], "reader")
    with pytest.raises(ExportError, match="changed the outputs"):
        run_passes(model, [_Wrong(1.01)], x)
    assert run_passes(model, [_Wrong(1.0)], x)[1][0].nonzeros_removed == 0


def test_sparse_storage_comes_after_all_passes() -> None:
    model, x = chain(["Relu"], "filter")
    sparse = helper.make_sparse_tensor(
        helper.make_tensor("s", onnx.TensorProto.FLOAT, [1], [1.0]),
        helper.make_tensor("i", onnx.TensorProto.INT64, [1], [0]), [4],
    )  # fmt: skip
    model.graph.sparse_initializer.append(sparse)
    model.graph.node.append(helper.make_node("Identity", ["s"], ["unused"]))
    with pytest.raises(ExportError, match="invalid graph"):  # onnx's full check does not know them either
        run_passes(model, [RemoveDeadChannels()], x)
