"""Training records in what ships: those that a sparse package unpacks to are found too."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from tests.unit.formats.packages import make_ptd

from sctool.data.dataset import Dataset
from sctool.data.splits import make_split
from sctool.domain.data_config import SplitConfig
from sctool.formats.spte import pack
from sctool.workflows.carrying import scan_files


def test_a_record_in_the_weights_of_a_package_is_found(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(600, 40)).astype(np.float32)
    y = np.arange(600) % 3
    data = Dataset(x, y, ["a", "b", "c"], {"kind": "none"}, "test")
    split = make_split(y, SplitConfig())
    member = int(split["train"][5])
    weights = rng.normal(size=(30, 40)).astype(np.float32)
    clean = pack(b"program", make_ptd({"w": weights.tobytes()}))
    weights[7] = x[member]
    carrying = pack(b"program", make_ptd({"w": weights.tobytes()}))
    assert x[member].tobytes() not in carrying  # as it lies there, nothing is to be seen
    (tmp_path / "clean.spte").write_bytes(clean)
    (tmp_path / "model.spte").write_bytes(carrying)
    found = scan_files({name: tmp_path / name for name in ("clean.spte", "model.spte")}, data, split)["found"]
    assert [(hit["file"], hit["record"], hit["as"]) for hit in found] == [("model.spte", member, "float32")]
    assert found[0]["at"].startswith("unpacked byte ")
