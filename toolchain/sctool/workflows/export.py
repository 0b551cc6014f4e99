"""From a run to a bundle: fold, export, sparsify last, reload what was written, hold it against eager."""

from __future__ import annotations

import hashlib
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sctool import __version__
from sctool.atomic import new_directory, refuse_existing, write_file
from sctool.data.recipe import load_dataset
from sctool.domain.artifact import Session
from sctool.domain.target import load_target
from sctool.errors import ArtifactError, ExportError
from sctool.export.executorch import export_pte
from sctool.export.fold import fold_batch_norm
from sctool.export.manifest import Manifest, write_manifest
from sctool.export.onnx import export_onnx, serialise_onnx, sparsify_onnx
from sctool.export.parity import Parity, compare_logits
from sctool.export.sizes import gzip_size
from sctool.runtimes.eager import EagerSession
from sctool.runtimes.registry import open_session
from sctool.workflows.progress import Progress, ignore_progress
from sctool.workflows.run_directory import Run, load_run_model, read_run, read_split

PARITY_RECORDS = 512
ONNX_FILE, PTE_FILE = "model.onnx", "model.pte"


def bundle_path(run: Path, target: str) -> Path:
    """Where `export` puts a bundle unless told otherwise."""
    return run / "bundles" / Path(target).stem
