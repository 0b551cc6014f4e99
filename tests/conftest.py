"""Shared by all tests: where the real data sets lie, and one run and bundle of the digits for each worker."""

from __future__ import annotations

import ctypes
import fcntl
import os
import shutil
from pathlib import Path

import pytest
from hypothesis import settings

from sctool.native import build
from sctool.native.library import load_library

settings.register_profile("shared machine", deadline=None)
settings.load_profile("shared machine")

SHORT = {
    "rounds": 2, "warm_up_steps": 60, "steps_per_round": 30, "final_steps": 60, "dense_steps": 150,
    "candidates": ["magnitude/gradient", "set/random"], "loss": "cross_entropy", "halving": [], "early_stopping": False,
}  # fmt: skip


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data sets: SCTOOL_DATA, else ../shared/data beside the checkout."""
    named = os.environ.get("SCTOOL_DATA")
    folder = Path(named) if named else Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no real data: neither SCTOOL_DATA nor {folder}")
    return folder


@pytest.fixture(scope="session")
def made_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short real run on the digits, exported for android. Treat as read-only; `run_copy` gives one to spoil."""
    from sctool.domain.config import validate_config
    from sctool.workflows.compress import compress
    from sctool.workflows.export import export

    folder = tmp_path_factory.mktemp("digits") / "run"
    compress(validate_config({"compress": SHORT}, where="test"), folder)
    export(folder)
    return folder


@pytest.fixture
def run_copy(made_run: Path, tmp_path: Path) -> Path:
    """A copy of `made_run` that the test may spoil."""
    copy = tmp_path / "run"
    shutil.copytree(made_run, copy)
    return copy


@pytest.fixture
def bundle_copy(run_copy: Path) -> Path:
    """The bundle inside `run_copy`."""
    return run_copy / "bundles" / "android"


@pytest.fixture(scope="session")
def library() -> ctypes.CDLL:
    """The sparse runtime's shared library, from the cache where these very sources were built before."""
    if missing := build.missing_tools():
        pytest.skip(f"no build without {', '.join(missing)}")
    folder = build.cache_folder()
    assert folder is not None
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / "test.lock").open("w") as lock:  # one of the parallel workers builds
        fcntl.flock(lock, fcntl.LOCK_EX)
        found = build.find_library() or build.build_library()
    return load_library(found)


@pytest.fixture(scope="session")
def sparse_bundle(made_run: Path, library: ctypes.CDLL, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`made_run` exported with the sparse backend. Treat as read-only."""
    from sctool.workflows.export import export

    return export(made_run, backend="sparse", output=tmp_path_factory.mktemp("sparse") / "bundle")[0]
