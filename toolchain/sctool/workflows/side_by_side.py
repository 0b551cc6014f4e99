"""Candidates of a round trained in processes of their own: the same steps, so the same bytes, in less time."""

from __future__ import annotations

import functools
import os
import threading
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from sctool.errors import TrainingError
from sctool.sparsity.order import DataOrder
from sctool.sparsity.rules import GradientRule
from sctool.sparsity.trainer import TrainingSettings, TrainingState, train_until

PIECE = 100
"""Steps that a process does before its state comes back, where the run can be saved and stopped."""


@dataclass(frozen=True)
class Piece:
    """What one process is to do: bring `state` to step `end`. x [N, ...] and y [N] are shared by all."""

    state: TrainingState
    x: NDArray[np.float32]
    y: NDArray[np.int64]
    settings: TrainingSettings
    end: int
    order: DataOrder
    rule: GradientRule


def train_side_by_side(pieces: Sequence[Piece], jobs: int) -> list[tuple[TrainingState, float]]:
    """Each piece's state at its end, and the seconds it took, in the order of `pieces`; `jobs` at a time, on the CPU.

    TrainingError where one fails, or where its process dies.
    """
    from joblib import Parallel, delayed
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    tasks = [replace(piece, state=replace(piece.state, plans={})) for piece in pieces]
    try:
        results: list[tuple[TrainingState, float]] = Parallel(n_jobs=jobs)(
            delayed(_train)(task, os.getpid()) for task in tasks
        )
    except TerminatedWorkerError as error:
        raise TrainingError(
            f"A process that trained a candidate died, {jobs} side by side.",
            hint="It may have run out of memory: lower compress.jobs, then take the run up again with --resume.",
        ) from error
    return results


def _train(piece: Piece, parent: int) -> tuple[TrainingState, float]:
    end_with(parent)
    torch.set_num_threads(1)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        x, y = torch.from_numpy(piece.x), torch.from_numpy(piece.y)
    began = time.perf_counter()
    train_until(piece.state, x, y, piece.settings, piece.end, piece.order, piece.rule)
    return replace(piece.state, plans={}), time.perf_counter() - began


@functools.cache
def end_with(parent: int) -> None:
    """Let this process end when the one that started it does, also by kill -9."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
