"""Every seed of the fuzzers, findings of theirs among them, is inspected or refused, and never more than that."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sctool.errors import ArtifactError
from sctool.export.manifest import read_manifest
from sctool.workflows.inspect import inspect_path

SEEDS = Path(__file__).resolve().parents[3] / "fuzz" / "corpus"


@pytest.mark.parametrize(
    "path", sorted(p for p in SEEDS.glob("*/*") if p.suffix != ".json"), ids=lambda path: path.name
)
def test_seeds_are_inspected_or_refused(path: Path) -> None:
    try:
        found = inspect_path(path)
    except ArtifactError:
        assert path.stem.startswith(("endless", "damaged"))
        return
    assert json.loads(json.dumps(found.to_json()))["size_bytes"] == path.stat().st_size
    assert found.layers


def test_the_seed_of_the_manifest_is_read() -> None:
    assert read_manifest(SEEDS / "manifest").files
