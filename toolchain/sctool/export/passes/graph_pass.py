"""What a pass over a dense ONNX graph promises, and the caller that holds it to that."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

from sctool.errors import ExportError
from sctool.export.passes.flops import count_flops

TOLERANCE = 1e-5
"""Largest change of an output, as a share of the largest output (at least 1)."""


class GraphPass(Protocol):
    """Changes a graph so that it answers the same with no more non-zeros."""

    name: str

    def refuses(self, model: onnx.ModelProto) -> str:
        """The precondition: why the pass cannot take `model`; "" where it can."""
        ...

    def apply(self, model: onnx.ModelProto) -> onnx.ModelProto:
        """A changed copy."""
        ...

    def breaks(self, before: onnx.ModelProto, after: onnx.ModelProto) -> str:
        """The postcondition beyond what all passes keep to: what is wrong with `after`; "" where nothing is."""
        ...


@dataclass(frozen=True)
class PassRecord:
    """What a pass took away: non-zeros and bytes of weights, and FLOPs of one record (dense, 2 a multiplication)."""

    name: str
    nonzeros_removed: int
    bytes_removed: int
    flops_removed: int
    note: str = ""


def run_passes(
    model: onnx.ModelProto, passes: Sequence[GraphPass], sample: NDArray[np.generic]
) -> tuple[onnx.ModelProto, list[PassRecord]]:
    """`model` after all `passes`, and what each took away.

    A pass whose precondition fails is left out, and its record says why. ExportError where one changes the inputs or
    outputs, adds non-zeros, breaks its own postcondition, or answers otherwise on `sample` [N, ...] by over TOLERANCE.
    """
    records = []
    answers = _answer(model, sample)
    for step in passes:
        why = refuses_any(model) or step.refuses(model)
        if why:
            records.append(PassRecord(step.name, 0, 0, 0, f"left out: {why}"))
            continue
        after = step.apply(model)
        changed = _answer(after, sample)
        wrong = _find_breach(model, after, answers, changed) or step.breaks(model, after)
        if wrong:
            raise ExportError(f"The pass {step.name!r} {wrong}.", hint="Leave it out of export.passes and report it.")
        gone = [a - b for a, b in zip(_count(model), _count(after), strict=True)]
        records.append(PassRecord(step.name, gone[0], gone[1], count_flops(model) - count_flops(after)))
        model = after
    return model, records


def refuses_any(model: onnx.ModelProto) -> str:
    """What no pass takes."""
    if model.graph.sparse_initializer:
        return "the graph has sparse initialisers"
    if model.functions:
        return "the graph has local functions"
    return ""


def weights_of(model: onnx.ModelProto) -> dict[str, NDArray[np.generic]]:
    """Initialiser -> array."""
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def _find_breach(
    before: onnx.ModelProto, after: onnx.ModelProto, answers: NDArray[np.float64], changed: NDArray[np.float64]
) -> str:
    for kind in ("input", "output"):
        names = [[value.name for value in getattr(model.graph, kind)] for model in (before, after)]
        if names[0] != names[1]:
            return f"changed the {kind}s from {names[0]} to {names[1]}"
    if _count(after)[0] > _count(before)[0]:
        return f"added {_count(after)[0] - _count(before)[0]} non-zeros"
    if changed.shape != answers.shape:
        return f"answers {list(changed.shape)}, not {list(answers.shape)}"
    error = float(np.abs(answers - changed).max(initial=0))
    if not error <= TOLERANCE * max(1.0, float(np.abs(answers).max(initial=0))):
        return f"changed the outputs by {error:.3g} (limit {TOLERANCE:g} of the largest)"
    return ""


def _count(model: onnx.ModelProto) -> tuple[int, int]:
    """(non-zeros, bytes) of the floating-point initialisers."""
    floats = [numpy_helper.to_array(t) for t in model.graph.initializer if t.data_type == TensorProto.FLOAT]
    return sum(int(np.count_nonzero(array)) for array in floats), sum(array.nbytes for array in floats)


def _answer(model: onnx.ModelProto, sample: NDArray[np.generic]) -> NDArray[np.float64]:
    """The first output; ExportError where the graph is not valid."""
    try:
        onnx.checker.check_model(model, full_check=True)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return np.asarray(session.run(None, {model.graph.input[0].name: sample})[0], dtype=np.float64)
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise ExportError(f"A pass left an invalid graph: {reason}.", hint="Run with --debug and report it.") from error
