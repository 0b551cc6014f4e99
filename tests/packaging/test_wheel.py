"""The built wheel in an empty environment, away from the checkout: targets and recipes travel inside."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TORCH = "torch==2.13.0"


def run(*command: object, cwd: Path) -> str:
    """Run with nothing of this process's Python in the environment; the output, or a failure with all of it."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "VIRTUAL_ENV", "SCTOOL"))}
    done = subprocess.run([str(part) for part in command], cwd=cwd, env=clean, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT, cwd=folder)
    return next(folder.glob("*.whl"))


def test_the_wheel_holds_what_the_package_needs_and_no_more(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    for name in ("sctool/_data/targets/android.toml", "sctool/_data/calibration/digits.toml",
                 "sctool/_data/targets/anchors/costs.toml", "sctool/_data/device_runner/ort_runner.c",
                 "sctool/export/handover/android.md.j2", "sctool/report/page.html.j2", "sctool/py.typed"):  # fmt: skip
        assert name in names
    assert not [name for name in names if not name.startswith("sctool")]
    sources = {str(path.relative_to(ROOT / "toolchain")) for path in (ROOT / "toolchain").rglob("*.py")}
    assert sources <= set(names)


@pytest.mark.slow
def test_the_wheel_does_the_main_job_without_the_checkout(wheel: Path, tmp_path: Path) -> None:
    run(sys.executable, "-m", "venv", "empty", cwd=tmp_path)
    python, sctool = tmp_path / "empty/bin/python", tmp_path / "empty/bin/sctool"
    run(python, "-m", "pip", "install", "--quiet", TORCH, cwd=tmp_path)
    run(python, "-m", "pip", "install", "--quiet", wheel, cwd=tmp_path)
    where = run(python, "-c", "import sctool; print(sctool.__file__)", cwd=tmp_path).strip()
    assert Path(where).is_relative_to(tmp_path)
    assert "pixel-4" in {target["name"] for target in json.loads(run(sctool, "targets", "--json", cwd=tmp_path))}
    run(sctool, "init", cwd=tmp_path)
    short = ("--set", "compress.rounds=1", "--set", "compress.dense_steps=200", "--set", "profile.iterations=10")
    record = json.loads(run(sctool, "run", "sctool.toml", *short, "--json", cwd=tmp_path))
    assert record["verification"]["verdict"] == "pass"
    assert (tmp_path / record["report"]).is_file()
