"""What a test-driven search costs: whole runs with four candidates a round, against RigL with as many trunk steps.

Wall time on this host of runs that take turns: RigL as commonly written in PyTorch (dense products under masks), RigL in
sctool, and the search with its worse candidates stopped at half of a round or a quarter, one by one and side by side.
The records are made up; what the runs are worth is in the studies `cost_*`.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from plain_pytorch import train_masked
from rich.console import Console
from rich.table import Table

from sctool.domain.config import Config, validate_config
from sctool.sparsity.order import DataOrder
from sctool.workflows.experiment import prepare_experiment
from sctool.workflows.progress import ignore_progress
from sctool.workflows.search import run_search
from sctool.workflows.search_state import start_search
from sctool.workflows.start import start_random
from sctool.workflows.training import count_steps

TURNS = 3
SHARES = {"train": 0.3, "validation": 0.15, "test": 0.25, "attack_fit": 0.06, "attack_select": 0.08, "audit_fit": 0.06,
          "audit": 0.1}  # fmt: skip
STEPS = {"rounds": 5, "warm_up_steps": 100, "steps_per_round": 80, "final_steps": 150, "density": 0.05,
         "early_stopping": False}  # fmt: skip
MODELS: dict[str, dict[str, Any]] = {
    "MLP 446-1024-512-256-128-30": {"source": "mlp", "options": {"hidden": [1024, 512, 256, 128]}},
    "small CNN, 28 x 28": {"source": "small_cnn"},
}


def make_bits() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    rng = np.random.default_rng(0)
    return (rng.random((5000, 446)) < 0.1).astype(np.float32), np.arange(5000) % 30


def make_images() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    rng = np.random.default_rng(0)
    return rng.normal(size=(6000, 1, 28, 28)).astype(np.float32), np.arange(6000) % 10


def make_config(model: str, **compress: object) -> Config:
    source = "search_cost:make_bits" if "MLP" in model else "search_cost:make_images"
    data = {"source": source, "split": SHARES}
    return validate_config(
        {"model": MODELS[model], "data": data, "compress": {**STEPS, **compress}}, where="search_cost"
    )


def make_peer(model: str) -> Callable[[], object]:
    config = make_config(model)
    experiment = prepare_experiment(config)
    first, size = config.compress.warm_up_steps, config.compress.steps_per_round
    updates = tuple(range(first, first + config.compress.rounds * size, size))
    order, steps = DataOrder(len(experiment.x), config.compress.batch_size, 0), count_steps(config.compress)
    x = experiment.x.contiguous()

    def train() -> None:
        state = start_random(experiment)
        model = state.model.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        train_masked(model, state.masks, x, experiment.y, order, steps, update_at=updates)

    return train


def make_search(model: str, **compress: object) -> Callable[[], object]:
    experiment = prepare_experiment(make_config(model, **compress))
    return lambda: run_search(experiment, start_search(experiment), ignore_progress, lambda *_: None, skip_dense=True)


def measure(model: str) -> dict[str, float]:
    """Name -> seconds a run."""
    rigl = {"candidates": ["magnitude/gradient"], "loss": "cross_entropy", "halving": []}
    ways = {
        "RigL, PyTorch": make_peer(model),
        "RigL, sctool": make_search(model, **rigl),
        "search, all in full": make_search(model, halving=[]),
        "search, stopped at 1/2": make_search(model, halving=[0.5]),
        "search, stopped at 1/2, 2 jobs": make_search(model, halving=[0.5], jobs=2),
        "search, stopped at 1/4": make_search(model, halving=[0.25]),
        "search, stopped at 1/4, 2 jobs": make_search(model, halving=[0.25], jobs=2),
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    make_search(model, halving=[0.5], jobs=2, rounds=1)()  # the processes of `jobs` start
    for _ in range(TURNS):
        for name, train in ways.items():
            began = time.perf_counter()
            train()
            times[name].append(time.perf_counter() - began)
    return {name: statistics.median(seconds) for name, seconds in times.items()}


def main() -> None:
    torch.set_num_threads(1)
    title = f"Whole runs at density 0.05, four candidates a round, host, a thread a process, medians of {TURNS} turns"
    table = Table(title=title)
    for column in ("model", "way", "seconds", "to RigL, PyTorch", "to RigL, sctool"):
        table.add_column(column, justify="right")
    for model in MODELS:
        results = measure(model)
        peer, own, *_ = results.values()
        for name, seconds in results.items():
            table.add_row(model, name, f"{seconds:.1f}", f"{seconds / peer:.2f}", f"{seconds / own:.2f}")
        table.add_section()
    Console(width=120, file=sys.stdout).print(table)


if __name__ == "__main__":
    main()
