"""The process that evaluates the constants of an ONNX file: `python -m sctool.export.count_constants`, request on stdin.

A file that a user names may hold nodes that want all memory or never end, or that a runtime crashes on: this process has
limits, and its end is not sctool's.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import sctool

MEMORY_BYTES = 8 * 2**30
SECONDS = 120


def count_constants(path: Path, names: list[str]) -> dict[str, dict[str, Any]]:
    """name -> {"dtype", "shape", "nnz"} of each constant, in a process of its own; without those that it did not get to."""
    if not names:
        return {}
    package = str(Path(sctool.__file__).resolve().parent.parent)
    paths = os.pathsep.join([package, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))])
    request = json.dumps({"path": str(path.absolute()), "names": names})
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-W", "ignore", "-m", "sctool.export.count_constants"], input=request, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=SECONDS, check=False,
            env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        lines = done.stdout
    except subprocess.TimeoutExpired as error:
        lines = error.stdout.decode(errors="replace") if isinstance(error.stdout, bytes) else error.stdout or ""
    found = {}
    for line in lines.splitlines():
        with suppress(ValueError):
            answer = json.loads(line)
            found[answer.pop("name")] = answer
    return found


def main() -> None:
    """One JSON object a line, each as soon as it is known."""
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    request = json.loads(sys.stdin.read())
    import onnx

    from sctool.export.constant_graph import extract_constants, find_constants

    model = onnx.load(request["path"], load_external_data=False)
    wanted = set(request["names"])
    for tensor in find_constants(model.graph):
        if tensor.name in wanted:
            with suppress(Exception):  # a runtime raises a dozen classes of its own; what is not told is not known
                answer = _count(extract_constants(model, tensor))
                sys.stdout.write(json.dumps({"name": tensor.name, **answer}) + "\n")
                sys.stdout.flush()


def _count(part: Any) -> dict[str, Any]:
    import numpy as np
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(part.SerializeToString(), options, providers=["CPUExecutionProvider"])
    (value,) = session.run(None, {})
    return {"dtype": str(value.dtype), "shape": list(value.shape), "nnz": int(np.count_nonzero(value))}


if __name__ == "__main__":
    main()
