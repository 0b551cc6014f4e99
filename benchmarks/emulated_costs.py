"""Counts what layers take in Arm code, under emulation, and writes native/costs/neon.toml: instructions, no time.

    python benchmarks/emulated_costs.py     # needs `sctool doctor --install-emulator`; a few minutes

The layers are those of runtime_costs.py. Ours: the runner's marked call on a program of one layer, less what copying the
record in and out takes. Instructions do not see that weights come from memory, which is most of what a linear layer takes at
batch 1: each byte of weights, as it lies in memory, is charged what the published latencies of phones say it takes beside a
multiply-add of a wide convolution (targets/anchors/costs.toml), in that convolution's instructions.

The stand-in for XNNPACK, whose Arm build is nowhere to be had without a phone's toolchain: stock ONNX Runtime for aarch64 on
a model of that layer, less an empty model. The same figures in every run of the same kit; a
call of another backend and each float that crosses are assumed, not counted, as in the other tables.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from runtime_costs import DENSITIES, DEPTHWISE, FOLDER, LINEAR, POINTWISE, SPATIAL, one_layer

from sctool.atomic import write_file
from sctool.export.sparse.graph import Graph, Kind, Operator
from sctool.export.sparse.payload import write_payload
from sctool.profiling.estimate import COST_KINDS, read_costs
from sctool.runtimes.device.emulator import EmulatedSession
from sctool.runtimes.device.runner import OrtRunner, Runner, SparseRunner
from sctool.runtimes.device.session import DeviceArtifact
from sctool.workflows.bench import COUNTED_CALLS, INSTRUCTIONS, TIMEOUT_S

COPIES = 3
"""A program that only flattens copies a record in, over and out."""


class Counter:
    """Instructions of the last of a few calls on one record of zeros, and what weights take to come from memory."""

    def __init__(self, session: EmulatedSession, folder: Path) -> None:
        self._session, self._folder, self._number = session, folder, 0
        channels, side = SPATIAL[2]
        costs = dict(zip(COST_KINDS, read_costs("arm").amounts, strict=True))
        macs = channels * channels * 9 * side * side
        self.of_a_weight_byte = costs["weights"] / costs["conv"] * self.stand_in(channels, side, 3, 1) / macs

    def count(self, content: bytes, runner: Runner, shape: tuple[int, ...]) -> float:
        self._number += 1
        path = self._folder / f"{self._number}{'.onnx' if runner.kind == 'onnxruntime' else '.scsp'}"
        path.write_bytes(content)
        artifact = DeviceArtifact(self._session, path, runner)
        work = artifact.work(np.zeros((1, *shape), np.float32), iterations=COUNTED_CALLS)
        calls = self._session.count(artifact.command(work), timeout_s=TIMEOUT_S)
        instructions = float(sum(calls[-1][name] for name in INSTRUCTIONS))
        if runner.kind == "onnxruntime":
            return instructions
        stored = artifact.measure(work, timeout_s=TIMEOUT_S)["weight_bytes"]
        return instructions + stored * self.of_a_weight_byte

    def ours(self, kind: Kind, channels: int, side: int, kernel: int, groups: int, density: float | None) -> float:
        """One layer, as `one_layer` makes it."""
        graph = one_layer(kind, channels, side, kernel, groups, density)
        whole = self.count(write_payload(graph), SparseRunner(), graph.shapes[0])
        return whole if kind is Kind.LINEAR else whole - self._copying(graph.shapes[0])

    def _copying(self, shape: tuple[int, ...]) -> float:
        graph = Graph(1)
        graph.inputs, graph.outputs = [graph.add_value(shape)], [graph.add_value((int(np.prod(shape)),))]
        graph.operators.append(Operator(Kind.FLATTEN, (0,), 1))
        return self.count(write_payload(graph), SparseRunner(), shape) * (COPIES - 1) / COPIES

    def dense_elsewhere(self, channels: int, side: int, kernel: int, groups: int) -> float:
        """The stand-in's instructions, and its weights' bytes."""
        weights = channels * channels // groups * kernel * kernel
        return self.stand_in(channels, side, kernel, groups) + 4 * weights * self.of_a_weight_byte

    def stand_in(self, channels: int, side: int, kernel: int, groups: int) -> float:
        """One layer in ONNX Runtime; side 0: a linear layer."""
        shape = (channels, side, side) if side else (channels,)
        weights = np.random.default_rng(0).standard_normal(
            (channels, channels // groups, kernel, kernel) if side else (channels, channels), np.float32
        )
        if side:
            node = helper.make_node("Conv", ["x", "w"], ["y"], group=groups, pads=[kernel // 2] * 4)
        else:
            node = helper.make_node("MatMul", ["x", "w"], ["y"])
        empty = helper.make_node("Relu", ["x"], ["y"])
        return self._onnx(node, shape, [numpy_helper.from_array(weights, "w")]) - self._onnx(empty, (4,), [])

    def _onnx(self, node: onnx.NodeProto, shape: tuple[int, ...], constants: list[onnx.TensorProto]) -> float:
        ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, *shape]) for name in ("x", "y")]
        graph = helper.make_graph([node], "layer", ends[:1], ends[1:], constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        return self.count(model.SerializeToString(), OrtRunner(), shape)

    def sparse_row(self, kind: Kind, channels: int, side: int, kernel: int) -> list[float]:
        """[output pixels, of a multiply-accumulate, of an input and kernel column]."""
        pixels = side * side if kind is Kind.CONVOLUTION else 1
        low, high = (self.ours(kind, channels, side, kernel, 1, density) for density in DENSITIES)
        size = channels * channels * kernel * kernel * pixels
        per_mac = max((high - low) / (size * (DENSITIES[1] - DENSITIES[0])), 1e-5)
        return [pixels, per_mac, max(low - per_mac * size * DENSITIES[0], 0.0) / (channels * pixels * kernel)]


def count_all(counter: Counter) -> dict[str, list[list[float]]]:
    """Table name -> rows."""
    rows: dict[str, list[list[float]]] = {
        "sparse_linear": [counter.sparse_row(Kind.LINEAR, LINEAR, 1, 1)],
        "dense_linear": [[1, counter.ours(Kind.LINEAR, LINEAR, 1, 1, 1, None) / LINEAR**2, 0.0]],
        "xnnpack_linear": [[1, counter.dense_elsewhere(LINEAR, 0, 1, 1) / LINEAR**2, 0.0]],
    }
    for name, sizes, kernel in (("spatial", SPATIAL, 3), ("pointwise", POINTWISE, 1), ("depthwise", DEPTHWISE, 3)):
        for channels, side in sizes:
            groups = channels if name == "depthwise" else 1
            macs = channels * channels // groups * kernel * kernel * side * side
            if groups == 1:
                row = counter.sparse_row(Kind.CONVOLUTION, channels, side, kernel)
                rows.setdefault(f"sparse_{name}", []).append(row)
            dense = counter.ours(Kind.CONVOLUTION, channels, side, kernel, groups, None)
            rows.setdefault(f"dense_{name}", []).append([side * side, dense / macs, 0.0])
            there = counter.dense_elsewhere(channels, side, kernel, groups)
            rows.setdefault(f"xnnpack_{name}", []).append([side * side, there / macs, 0.0])
            print(
                name, channels, side, {key: table[-1] for key, table in rows.items() if key.endswith(name)}, flush=True
            )
    return rows


def main() -> None:
    session = EmulatedSession()
    try:
        with tempfile.TemporaryDirectory() as folder:
            counter = Counter(session, Path(folder))
            rows = count_all(counter)
        where = f"{session.cpu} in {session.facts().build}"
        charged = f"each byte of weights {counter.of_a_weight_byte:.3g} instructions, after published latencies"
    finally:
        session.close()
    lines = [
        "# Written by benchmarks/emulated_costs.py. Rows: output pixels, instructions a multiply-accumulate, an input.",
        'isa = "neon"', 'unit = "instructions"',
        f'measured_on = "emulated, no time: {where}; ONNX Runtime stands in for XNNPACK; {charged}"',
        "# Assumed, not counted: a call of another backend, and each float that crosses, at five a nanosecond (2.5 GHz).",
        "boundary_ns = 5000.0", "boundary_ns_per_float = 1.5", "", "[rows]",
    ]  # fmt: skip
    for name, table in rows.items():
        inner = ", ".join(f"[{int(pixels)}, {mac:.5f}, {each:.4f}]" for pixels, mac, each in table)
        lines.append(f"{name} = [{inner}]")
    write_file(FOLDER / "neon.toml", "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
