"""The records that an export takes from the run's data, read once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sctool.data.source import load_dataset
from sctool.errors import ArtifactError
from sctool.workflows.run_directory import Run, read_split

PARITY_RECORDS = 512


@dataclass(frozen=True)
class ExportRecords:
    """`parity` [N, ...]: up to PARITY_RECORDS that every written file is held against, test and validation first, train
    where these are too few. `calibration` [M, ...]: the split part `quantisation`."""

    parity: NDArray[np.float32]
    calibration: NDArray[np.float32]


def read_export_records(run: Run) -> ExportRecords:
    """Read the run's data set. ArtifactError where it is not the one that the run was made with."""
    data = load_dataset(run.config.data.source, run.config.data.root)
    split = read_split(run)
    rows = np.concatenate([split["test"], split["validation"], split["train"]])[:PARITY_RECORDS]
    last = max(int(part.max(initial=0)) for part in (rows, split["quantisation"]))
    if len(data.x) <= last or list(data.x.shape[1:]) != list(run.summary["data"]["input_shape"]):
        raise ArtifactError(f"The data {run.config.data.source!r} are not those of {run.path}.", hint="Restore them.")
    return ExportRecords(data.x[rows], data.x[split["quantisation"]])
