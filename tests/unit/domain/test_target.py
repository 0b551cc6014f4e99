"""Target files: ours all load, wrong ones are explained in one line."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from sctool.domain.target import Target, load_target, read_target
from sctool.errors import ConfigError
from sctool.resources import list_resources

SHIPPED = sorted(list_resources("targets"))
GOOD = 'name = "t"\nkind = "device"\nplatform = "android"\nabi = "arm64-v8a"\nruntime = ["executorch"]\n'


def write(folder: Path, text: str) -> Path:
    path = folder / "t.toml"
    path.write_text(text)
    return path


def test_the_promised_targets_ship() -> None:
    assert {"android", "linux-arm64", "host", "ios", "android-flagship", "android-mid", "android-entry", "pixel-4",
            "pixel-3a"} <= set(SHIPPED)  # fmt: skip


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_target_loads_and_its_anchors_have_a_source(name: str) -> None:
    target = load_target(name)
    assert target.name == name
    assert target.description
    assert all(anchor.source.strip() for anchor in target.anchors)


def test_models_are_frozen() -> None:
    with pytest.raises(ValidationError):
        load_target("host").threads = 2


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        (GOOD + "[budget]\nlatency_p59_ms = 3\n", ["'budget.latency_p59_ms'", "'latency_p95_ms'"]),
        (GOOD + '[[clusters]]\nname = "big"\ncors = 2\n', ["'clusters.0.cors'", "'cores'"]),
        (GOOD.replace("platform", "platfrom"), ["'platfrom'", "'platform'"]),
        (GOOD.replace('"device"', '"devise"'), ["kind", "'device'"]),
        (GOOD.replace('abi = "arm64-v8a"\n', ""), ["'abi' is missing"]),
        (GOOD + "[budget]\nlatency_p95_ms = -1\n", ["budget.latency_p95_ms = -1"]),
        (GOOD + "[budget]\nmax_auc = nan\n", ["budget.max_auc"]),
        (GOOD + "[budget]\nsize_mib = inf\n", ["budget.size_mib"]),
        (GOOD + '[[anchors]]\nmodel = "m"\nprecision = "fp32"\nthreads = 1\nlatency_ms = 1\n', ["anchors.0.source"]),
        (GOOD.replace('"t"', '"other"'), ["'other'", "'t'"]),
        (GOOD.replace('["executorch"]', "[]"), ["runtime"]),
        ("name = ", ["not valid TOML"]),
    ],
)
def test_a_wrong_file_is_explained_in_one_line(tmp_path: Path, text: str, parts: list[str]) -> None:
    path = write(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        read_target(path)
    message = str(caught.value)
    assert "\n" not in message
    assert all(part in message for part in [str(path), *parts])


def test_missing_and_undecodable_files(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Cannot read"):
        read_target(tmp_path / "absent.toml")
    (tmp_path / "t.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="not valid TOML"):
        read_target(tmp_path / "t.toml")
    with pytest.raises(ConfigError, match="'pixel-4'"):
        load_target("pixel4")


@given(threads=st.integers(1, 64), limit=st.none() | st.floats(0.001, 1e6))
def test_json_round_trip(threads: int, limit: float | None) -> None:
    record = load_target("pixel-4").model_dump() | {"threads": threads, "budget": {"latency_p95_ms": limit}}
    target = Target.model_validate(record)
    assert Target.model_validate_json(target.model_dump_json()) == target
