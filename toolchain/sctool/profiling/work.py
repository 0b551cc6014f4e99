"""Counts the work of an .onnx file as ONNX Runtime will run it: its sparse weights unfolded, at batch 1."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path

import onnx
import onnxruntime
from onnx import shape_inference

from sctool.domain.work import Work
from sctool.errors import ArtifactError

_FREE = {"Constant", "Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Shape", "Cast", "Dropout"}
_BYTES = {onnx.TensorProto.FLOAT: 4, onnx.TensorProto.FLOAT16: 2, onnx.TensorProto.INT8: 1, onnx.TensorProto.UINT8: 1}


def count_work(path: Path) -> Work:
    """The work of one call on one record. ArtifactError where ONNX Runtime cannot load the file."""
    graph = _unfold(path).graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    shapes = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    for value in (*graph.input, *graph.output, *graph.value_info):
        dims = value.type.tensor_type.shape.dim
        shapes[value.name] = [dim.dim_value if dim.dim_value > 0 else 1 for dim in dims]
    macs = dict.fromkeys(("conv", "pointwise", "depthwise", "dense"), 0.0)
    weights = activations = nodes = 0.0
    for node in graph.node:
        if node.op_type in _FREE or not node.output:
            continue
        nodes += 1
        for name in node.input:
            if name in constants:
                weights += math.prod(shapes[name]) * _BYTES.get(constants[name].data_type, 4)
            elif name in shapes:
                activations += math.prod(shapes[name]) * 4
        activations += sum(math.prod(shapes.get(name, [0])) * 4 for name in node.output)
        kind, count = _classify(node, shapes)
        if kind:
            macs[kind] += count
    return Work(
        **{kind: count / 1e6 for kind, count in macs.items()}, weights=weights / 1e6, activations=activations / 1e6,
        nodes=nodes,
    )  # fmt: skip


def _unfold(path: Path) -> onnx.ModelProto:
    """The graph after constant folding, batch 1, with the shape of every value."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    with tempfile.TemporaryDirectory(prefix="sctool-work-") as folder:
        options.optimized_model_filepath = str(Path(folder) / "unfolded.onnx")
        try:
            onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
            model = onnx.load(options.optimized_model_filepath)
        except Exception as error:  # a dozen classes of ONNX Runtime's own
            reason = " ".join(str(error).split())[:160]
            raise ArtifactError(f"Cannot count the work of {path}: {reason}.", hint="Export the run again.") from error
    for value in model.graph.input:
        for dim in list(value.type.tensor_type.shape.dim)[:1]:
            dim.dim_value = 1
    del model.graph.value_info[:]
    for value in model.graph.output:
        value.type.tensor_type.ClearField("shape")
    return shape_inference.infer_shapes(model, data_prop=True)


def _classify(node: onnx.NodeProto, shapes: dict[str, list[int]]) -> tuple[str | None, float]:
    """The kernel's kind and its multiply-adds; (None, 0) where it multiplies nothing of note."""
    operation = node.op_type.removeprefix("Fused").removeprefix("QLinear")
    output = math.prod(shapes.get(node.output[0], [0]))
    if operation == "Conv":
        kernel = shapes.get(node.input[1 if "QLinear" not in node.op_type else 3], [0, 0])
        groups = next((attribute.i for attribute in node.attribute if attribute.name == "group"), 1)
        count = float(output * math.prod(kernel[1:]))
        if groups > 1 and kernel[1] == 1:
            return "depthwise", count
        return ("pointwise" if math.prod(kernel[2:]) == 1 else "conv"), count
    if operation in ("Gemm", "MatMul"):
        inner = shapes.get(node.input[0], [0])
        transposed = any(attribute.name == "transA" and attribute.i for attribute in node.attribute)
        return "dense", float(output * inner[0 if transposed else -1])
    return None, 0.0
