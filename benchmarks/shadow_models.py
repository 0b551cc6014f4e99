"""Shadow models: 64 trained by sctool, against 64 trained one after another in plain PyTorch, for as many steps.

The peer trains with one thread or with all, whichever is faster here. The attacked models have density 0.05; shadow
models have their masks. The records are made up. Wall time of the host: sctool trains all TURNS times, and after each time
the peer the next part of its models; the figure is sctool's median against the peer's sum. Both keep the memory they free
(sparsity/allocator.py), which plain PyTorch by itself does not.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch
from plain_pytorch import train_masked
from rich.console import Console
from rich.table import Table
from search_cost import make_config

from sctool.sparsity.order import DataOrder
from sctool.workflows.compress import compress
from sctool.workflows.experiment import Experiment, prepare_experiment
from sctool.workflows.run_directory import read_run
from sctool.workflows.shadow_plan import deal_in, make_shadow_split, plan_pool, read_stretches
from sctool.workflows.shadows import FOLDER, train_shadows
from sctool.workflows.start import start_random

STEPS = {"MLP 446-1024-512-256-128-30": 1200, "small CNN, 28 x 28": 580}
"""50 and 20 epochs of the members."""
TURNS = 3


def train_one_by_one(experiment: Experiment, folder: Path, numbers: range, count: int) -> float:
    """Seconds of shadow models `numbers` of `count` in plain PyTorch, on the records that sctool gives them."""
    run = read_run(folder)
    pool = plan_pool(experiment.split, 0)
    steps, is_in = read_stretches(run)[-1].end, deal_in(pool, count, 0)
    began = time.perf_counter()
    for number in numbers:
        split = make_shadow_split(pool, is_in[number], experiment.split, number)
        x, y = experiment.records(split["train"])
        state = start_random(experiment)
        model = state.model.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        train_masked(model, state.masks, x.contiguous(), y, DataOrder(len(x), 64, number), steps)
    return time.perf_counter() - began


def measure(model: str, count: int) -> tuple[float, list[float], int]:
    """(seconds of the peer, seconds of sctool at each turn, threads of the peer)."""
    part = STEPS[model] // 5
    lengths = {"rounds": 2, "warm_up_steps": part, "steps_per_round": part, "final_steps": 2 * part, "dense_steps": 1}
    config = make_config(model, **lengths, loss="cross_entropy", candidates=["magnitude/gradient"])
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "run"
        compress(config, folder)
        experiment = prepare_experiment(config)
        trials = {}
        for threads in sorted({1, os.cpu_count() or 1}):
            torch.set_num_threads(threads)
            train_one_by_one(experiment, folder, range(1), count)
            trials[threads] = train_one_by_one(experiment, folder, range(2), count)
        best = min(trials, key=lambda threads: trials[threads])
        peer, ours = 0.0, []
        for turn in range(TURNS):
            shutil.rmtree(folder / FOLDER, ignore_errors=True)
            torch.set_num_threads(1)
            began = time.perf_counter()
            train_shadows(read_run(folder), count, jobs=os.cpu_count() or 1)
            ours.append(time.perf_counter() - began)
            torch.set_num_threads(best)
            peer += train_one_by_one(experiment, folder, range(turn, count, TURNS), count)
        return peer, ours, best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=int, default=64, help="how many shadow models")
    count = parser.parse_args().models
    table = Table(title=f"{count} shadow models at density 0.05, {os.cpu_count()} cores of the host")
    for column in ("model", "PyTorch, one by one, s", "threads", f"sctool, s, {TURNS} times", "times as fast"):
        table.add_column(column, justify="right")
    for model in STEPS:
        peer, ours, threads = measure(model, count)
        spread = ", ".join(f"{seconds:.1f}" for seconds in ours)
        table.add_row(model, f"{peer:.1f}", str(threads), spread, f"{peer / statistics.median(ours):.2f}")
    Console(width=120, file=sys.stdout).print(table)


if __name__ == "__main__":
    main()
