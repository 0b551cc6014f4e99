"""Whether what ships carries records of the training set: every file of a bundle or application's models is searched."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sctool.data.dataset import Dataset
from sctool.domain.membership import MembershipSplit
from sctool.export.initialisers import read_initialisers
from sctool.formats.damage import reading
from sctool.formats.spte import KIND, is_spte, read_spte
from sctool.safety.carried import find_records, find_rows, render_records

MOST_TOLD = 5


def scan_files(files: dict[str, Path], data: Dataset, split: MembershipSplit) -> dict[str, Any]:
    """name -> path of what ships -> what was searched, and each training record that was found, with its place."""
    rows = split["train"]
    members = data.x[rows]
    raw = _undo_normalisation(members, data.normalisation)
    found: list[dict[str, Any]] = []
    renderings = list(render_records(members, raw))
    for name, path in files.items():
        for place, content in _unfold(path):
            for rendering, records in renderings:
                found += [
                    {"file": name, "record": int(rows[hit.record]), "as": rendering, "at": f"{place} {hit.offset}",
                     "share": hit.share}
                    for hit in find_records(content, rendering, records)
                ]  # fmt: skip
        if path.suffix == ".onnx":
            for tensor, values in read_initialisers(path):
                found += [
                    {"file": name, "record": int(rows[record]), "as": "a row of a tensor", "at": f"{tensor}[{row}]",
                     "share": 1.0}
                    for row, record in find_rows(values, members)
                ]  # fmt: skip
    return {"records": len(rows), "renderings": [rendering for rendering, _ in renderings], "files": sorted(files),
            "found": found}  # fmt: skip


def _unfold(path: Path) -> list[tuple[str, bytes]]:
    """(what an offset counts, bytes) of a file as it lies there, and of the data that a sparse package unpacks to."""
    content = path.read_bytes()
    if not is_spte(content):
        return [("byte", content)]
    with reading(str(path), KIND):
        return [("byte", content), ("unpacked byte", read_spte(content, str(path)).unpack_data())]


def tell_carried(scan: dict[str, Any]) -> list[str]:
    """What the verdict says of it."""
    found = scan["found"]
    told = [
        f"{hit['file']} carries training record {hit['record']} ({hit['as']}, {hit['at']})."
        for hit in found[:MOST_TOLD]
    ]
    if len(found) > MOST_TOLD:
        told.append(f"And {len(found) - MOST_TOLD} more training records.")
    return told


def _undo_normalisation(x: NDArray[np.float32], done: dict[str, object]) -> NDArray[np.float64]:
    """The values before a recipe's scaling, where that is known; else x."""
    values = x.astype(np.float64)
    by = done.get("by")
    if done.get("kind") == "divide" and isinstance(by, int | float):
        return values * by
    if done.get("kind") == "channels" and isinstance(by, int | float):
        shape = (1, -1) + (1,) * (x.ndim - 2)
        mean, std = (np.asarray(done[key], dtype=np.float64).reshape(shape) for key in ("mean", "std"))
        return (values * std + mean) * by
    return values
