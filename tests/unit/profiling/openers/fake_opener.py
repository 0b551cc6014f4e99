"""Openers for the worker's tests: put this folder on PYTHONPATH."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sctool.errors import ExportError


class Fake:
    name = "fake"

    def __init__(self, megabytes: int = 0) -> None:
        self.ballast = np.ones(megabytes * 2**17)

    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        return batch.reshape(len(batch), -1)[:, :2]


def opens(path: Path, *, threads: int = 1) -> Fake:
    print("a runtime that is chatty on stdout")
    assert os.environ["OMP_NUM_THREADS"] == str(threads)
    return Fake()


def opens_big(path: Path, *, threads: int = 1) -> Fake:
    return Fake(64)


def slow_first(path: Path, *, threads: int = 1) -> Fake:
    if not getattr(sys, "_opened_before", False):
        time.sleep(0.2)
        sys._opened_before = True  # type: ignore[attr-defined]
    return Fake()


def raises(path: Path, *, threads: int = 1) -> Fake:
    raise ValueError("no such operator: Frobnicate")


def raises_ours(path: Path, *, threads: int = 1) -> Fake:
    raise ExportError("Damaged graph.", hint="Export again.")


def crashes(path: Path, *, threads: int = 1) -> Fake:
    print("about to fall over", file=sys.stderr, flush=True)
    os.kill(os.getpid(), signal.SIGSEGV)
    return Fake()


def leaves_quietly(path: Path, *, threads: int = 1) -> Fake:
    os._exit(0)


def hangs(path: Path, *, threads: int = 1) -> Fake:
    Path(os.environ["FAKE_PID_FILE"]).write_text(str(os.getpid()))
    time.sleep(600)
    return Fake()
