"""The sparse runtime's int8 arithmetic against its own float32 kernels: results/int8_arithmetic.csv.

    python -m benchmarks.int8_arithmetic     # three minutes, one thread; from the checkout's root

Layers of ResNet-18 on 32 x 32 images and of the MLP alone, then both models whole, random masks at uniform density, the same
payloads but for the arithmetic. The two take turns in one process; figures are medians of RUNS turns, each the step's own
time (layers) or that of CALLS calls (models) after one that warms the caches. Quantising the inputs, scaling the sums back
and every change of layout are in the figures. Before a layer is timed, its answers must be those of whole numbers to the
last bit (tests/native/quantised_oracle.py), on every instruction set of this processor; `same_bits` says on how many. With
the models, the dense ones in int8 take their turns: ONNX Runtime's QDQ file and XNNPACK's program.
`error` is the largest difference of the outputs as a share of the largest.
"""

from __future__ import annotations

import csv
import functools
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarks.runtime import MODELS, Case, make_model
from tests.native.oracle import Array, convolution, draw, mlp
from tests.native.quantised_oracle import answer_quantised, quantise

from sctool.export.executorch import export_pte, export_sparse_pte
from sctool.export.onnx import export_onnx, serialise_onnx
from sctool.export.passes.batch_norm import fold_batch_norm
from sctool.export.precision import lower_precision
from sctool.export.sparse.graph import Activation, Graph, Storage, Window
from sctool.export.sparse.payload import write_payload
from sctool.native.costs import load_costs
from sctool.native.library import PayloadSession, host_isa, load_library
from sctool.quiet import silence_native

RESULTS = Path(__file__).resolve().parent / "results" / "int8_arithmetic.csv"
RUNS, CALLS = 30, 10
DENSITIES = (0.05, 0.1, 0.2)


@dataclass(frozen=True)
class Layer:
    """A k x k convolution of `channels` [side, side] maps into `rows`, or with side 0 a linear layer of a batch."""

    channels: int
    rows: int
    side: int = 0
    kernel: int = 3
    stride: int = 1
    batch: int = 1

    @property
    def name(self) -> str:
        if not self.side:
            return f"linear {self.channels}-{self.rows}"
        sides, kernel = f"{self.side} x {self.side}", f"{self.kernel} x {self.kernel}"
        return f"{kernel} {self.channels}-{self.rows} at {sides}, stride {self.stride}"

    def graph(self, density: float) -> Graph:
        rng = np.random.default_rng(0)
        if not self.side:
            return mlp(rng, [self.channels, self.rows], density, Storage.SPARSE)
        pad = self.kernel // 2
        return convolution(
            rng, self.channels, self.rows, self.side, self.side, Window(self.kernel, self.kernel, self.stride, *[pad] * 4),
            density=density, storage=Storage.SPARSE, activation=Activation.RELU,
        )  # fmt: skip


LAYERS = [
    Layer(64, 64, 32), Layer(128, 128, 16), Layer(256, 256, 8), Layer(512, 512, 4),
    Layer(64, 128, 32, stride=2), Layer(256, 512, 8, stride=2), Layer(256, 512, 8, kernel=1, stride=2),
    *(Layer(before, after, batch=batch) for batch in (1, 64)
      for before, after in ((600, 1024), (1024, 512), (512, 256), (256, 128), (128, 100))),
]  # fmt: skip
CASES = [
    *(Case("resnet18", kind, density, 1, 0) for kind in ("uniform", "erk") for density in DENSITIES),
    *(Case("mlp", "uniform", density, batch, 0) for batch in (1, 64) for density in DENSITIES),
]


def count_same_bits(graph: Graph, x: Array) -> int:
    """The instruction sets that answer as whole numbers do; RuntimeError where one does not."""
    payload, expected = write_payload(quantise(graph)), answer_quantised(graph, [x])
    found = [
        isa for isa in ("portable", "neon", "avx2", "avx512") if load_library().sctool_sparse_find_isa(isa.encode())
    ]
    for isa in found:
        if not np.array_equal(PayloadSession(payload, isa=isa).run([x])[0], expected):
            raise RuntimeError(f"{isa} does not answer as whole numbers do")
    return len(found)


def time_steps(sessions: list[PayloadSession], x: Array) -> list[float]:
    """Microseconds of each session's only step."""
    times: list[list[float]] = [[] for _ in sessions]
    for session in sessions:
        session.run([x])
    for _ in range(RUNS):
        for number, session in enumerate(sessions):
            session.time_steps()
            session.run([x])
            session.run([x])
            times[number].append(session.time_steps()[0] / 1000)
    return [statistics.median(found) for found in times]


def time_calls(calls: list[Callable[[], object]]) -> list[float]:
    """Microseconds of each call."""
    times: list[list[float]] = [[] for _ in calls]
    for call in calls:
        call()
    for _ in range(RUNS):
        for number, call in enumerate(calls):
            call()
            began = time.perf_counter()
            for _ in range(CALLS):
                call()
            times[number].append(1e6 * (time.perf_counter() - began) / CALLS)
    return [statistics.median(found) for found in times]


@functools.cache
def dense_int8(name: str) -> tuple[Any, Any, bytes]:
    """The model before masking in int8: (ONNX Runtime's session, ExecuTorch's module with XNNPACK, the bytes it reads)."""
    import onnxruntime
    from executorch.extension.pybindings import _portable_lib as bindings

    torch.manual_seed(0)
    build, shape = MODELS[name]
    model = fold_batch_norm(build())[0]
    records = torch.randn(64, *shape, generator=torch.Generator().manual_seed(2))
    graph = lower_precision(export_onnx(model, records[:2], max_batch=64), "int8", records.numpy())
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    program = export_pte(model, records[:2], max_batch=64, precision="int8", calibration=records).program
    with silence_native():
        bindings._unsafe_reset_threadpool(1)
        module = bindings._load_for_executorch_from_buffer(program)
        session = onnxruntime.InferenceSession(serialise_onnx(graph), options, providers=["CPUExecutionProvider"])
    return session, module, program


def layer_rows() -> Iterator[dict[str, Any]]:
    for density in DENSITIES:
        for layer in LAYERS:
            graph = layer.graph(density)
            x = np.maximum(draw(np.random.default_rng(1), (layer.batch, *graph.shapes[0])), 0)
            same = count_same_bits(graph, x)
            sessions = [PayloadSession(write_payload(made)) for made in (graph, quantise(graph))]
            yield row(layer.name, "", density, sessions, x, time_steps(sessions, x), same_bits=same)


def model_rows() -> Iterator[dict[str, Any]]:
    for case in CASES:
        model, shape = make_model(case), MODELS[case.model][1]
        example, costs = torch.zeros(2, *shape), load_costs(host_isa())
        sessions = []
        for values in ("float32", "quantised"):
            program = export_sparse_pte(model, example, max_batch=64, costs=costs, values=values)
            if len(program.payloads) != 1:
                raise RuntimeError(f"{case.name} is no single payload")
            sessions.append(PayloadSession(program.payloads[0]))
        tensor = torch.randn(case.batch, *shape, generator=torch.Generator().manual_seed(1))
        x = tensor.numpy()
        onnx, module, _ = dense_int8(case.model)
        times = time_calls(
            [
                *(functools.partial(session.run, [x]) for session in sessions),
                functools.partial(onnx.run, None, {"input": x}),
                functools.partial(module.forward, (tensor,)),
            ]
        )
        yield row(
            case.model, case.distribution, case.density, sessions, x, times,
            dense_onnxruntime_int8_us=round(times[2], 1), dense_xnnpack_int8_us=round(times[3], 1),
        )  # fmt: skip


def row(
    name: str, masks: str, density: float, sessions: list[PayloadSession], x: Array, times: list[float], **more: Any
) -> dict[str, Any]:
    theirs, ours = (session.run([x])[0] for session in sessions)
    before, after = times[:2]
    print(
        f"{name} {masks} {density} batch {len(x)}: {before:.1f} -> {after:.1f} us, {before / after:.2f} x",
        more,
        flush=True,
    )
    return {
        "what": name, "masks": masks, "density": density, "batch": len(x), "float32_us": round(before, 2),
        "int8_us": round(after, 2), "speed_up": round(before / after, 2), "float32_weight_bytes": sessions[0].weight_bytes,
        "int8_weight_bytes": sessions[1].weight_bytes,
        "error": f"{float(np.abs(ours - theirs).max() / np.abs(theirs).max()):.1e}", "isa": host_isa(), **more,
    }  # fmt: skip


def main() -> None:
    torch.set_num_threads(1)
    rows = [*model_rows(), *layer_rows()]
    with RESULTS.open("w", newline="") as file:
        names = list(dict.fromkeys(name for made in rows for name in made))
        writer = csv.DictWriter(file, names, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
