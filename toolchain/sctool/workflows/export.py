"""From a run to a bundle: fold, export, sparsify last, reload what was written, hold it against eager."""

from __future__ import annotations

from pathlib import Path

PARITY_RECORDS = 512
ONNX_FILE, PTE_FILE = "model.onnx", "model.pte"


def bundle_path(run: Path, target: str) -> Path:
    """Where `export` puts a bundle unless told otherwise."""
    return run / "bundles" / Path(target).stem
