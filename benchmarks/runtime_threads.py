"""One and two threads of the sparse runtime, taking turns: results/runtime_threads.csv.

    python benchmarks/runtime_threads.py      # a minute; needs two processors to itself

The payloads of runtime.py's models through the library, without ExecuTorch; medians of 30 turns of 20 calls in a row,
after a first one that does not count. `speed_up` is one thread's time over two threads'.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from runtime import MODELS, RESULTS, Case, interleave, make_model, write_rows

from sctool.export.executorch import export_sparse_pte
from sctool.native.build import build_library
from sctool.native.costs import load_costs
from sctool.native.library import PayloadSession, host_isa

CASES = [
    Case("resnet18", "uniform", 0.05, 1, 0), Case("resnet18", "uniform", 0.1, 1, 0), Case("resnet18", "erk", 0.1, 1, 0),
    Case("resnet18", "uniform", 0.05, 8, 0), Case("mlp", "uniform", 0.1, 64, 0), Case("mobilenetv2", "pointwise", 0.1, 1, 0),
]  # fmt: skip


def measure(case: Case) -> dict[str, Any]:
    model, shape = make_model(case), MODELS[case.model][1]
    program = export_sparse_pte(model, torch.zeros(2, *shape), max_batch=64, costs=load_costs(host_isa()))
    (payload,) = program.payloads
    x = np.random.default_rng(0).standard_normal((case.batch, *shape)).astype(np.float32)
    one, two = (PayloadSession(payload, threads=threads) for threads in (1, 2))
    _, seconds = interleave({"one": lambda: one.run([x]), "two": lambda: two.run([x])}, 20)
    return {
        "model": case.model, "distribution": case.distribution, "density": case.density, "batch": case.batch,
        "one_thread_us": round(1e6 * seconds["one"], 1), "two_threads_us": round(1e6 * seconds["two"], 1),
        "speed_up": round(seconds["one"] / seconds["two"], 2), "isa": host_isa(),
    }  # fmt: skip


def main() -> None:
    torch.set_num_threads(1)
    build_library()
    rows = []
    for case in CASES:
        rows.append(measure(case))
        print(rows[-1], flush=True)
    write_rows(RESULTS / "runtime_threads.csv", rows)


if __name__ == "__main__":
    main()
