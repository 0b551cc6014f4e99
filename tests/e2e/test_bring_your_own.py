"""The example that users copy: their model, their data, and a layer that cannot be masked."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "bring_your_own"


@pytest.mark.parametrize("source", ["callable", "npz"])
def test_the_example_runs_from_its_own_folder(tmp_path: Path, source: str) -> None:
    folder = tmp_path / "mine"
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns("runs", "__pycache__"))
    more = []
    if source == "npz":
        make = "import numpy as np, cancer; x, y = cancer.load(); np.savez('records.npz', x=x, y=y)"
        subprocess.run([sys.executable, "-c", make], cwd=folder, check=True)
        more = ["--set", "data.source=records.npz"]
        with np.load(folder / "records.npz", allow_pickle=False) as arrays:
            assert arrays["x"].shape == (569, 30)
    done = subprocess.run(
        [sys.executable, "-m", "sctool", "run", "sctool.toml", *more], cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "left dense: 3.gate (Gated:" in done.stdout
    assert "withheld and not judged: it takes 100 non-members, the audit has 78" in done.stdout
    run = folder / "runs" / "breast-cancer"
    summary = json.loads((run / "summary.json").read_text())
    assert [layer["layer"] for layer in summary["left_dense"]] == ["3.gate"]
    assert summary["sparse"]["test_accuracy"] > 0.85
    page = (run / "report.html").read_text()
    assert "3.gate" in page and "Left dense" in page
    manifest = json.loads((run / "bundles" / "android" / "manifest.json").read_text())
    assert manifest["parity"]["model.pte"]["top1_agreement"] == 1.0
    assert not any("batch_norm" in layer["name"].lower() or "running" in layer["name"] for layer in manifest["layers"])
