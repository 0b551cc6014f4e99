"""The C++ reader of sparse packages against the Python one: the same bytes, the same refusals, nothing out of bounds."""

from __future__ import annotations

import shutil
import struct
import subprocess
import zlib
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from sctool.errors import ArtifactError
from sctool.formats.spte import pack, read_spte
from tests.unit.formats.packages import make_ptd

SOURCES = Path(__file__).resolve().parents[2] / "toolchain" / "sparse_runtime" / "package"
WARNINGS = ("-Wall", "-Wextra", "-Werror", "-Wconversion", "-Wshadow")
MASK = 2**64 - 1


def compile_sources(output: Path, *arguments: object) -> None:
    done = subprocess.run(
        ["g++", "-std=c++17", "-o", str(output), *map(str, arguments)], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.fixture(scope="module")
def compiler() -> None:
    if shutil.which("g++") is None:
        pytest.skip("no g++: the C++ reader cannot be built")


@pytest.fixture(scope="module")
def probe(compiler: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Against the headers of the installed ExecuTorch; with sanitizers, where the compiler brings them."""
    found = find_spec("executorch")
    assert found is not None and found.submodule_search_locations
    headers = Path(next(iter(found.submodule_search_locations))) / "include"
    if not (headers / "executorch/runtime/core/named_data_map.h").is_file():
        pytest.skip(f"no ExecuTorch headers in {headers}")
    folder = tmp_path_factory.mktemp("probe")
    (folder / "empty.cpp").write_text("int main() { return 0; }")
    sanitizers = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    trial = ["g++", *sanitizers, "-o", str(folder / "empty"), str(folder / "empty.cpp")]
    if subprocess.run(trial, capture_output=True).returncode or subprocess.run([str(folder / "empty")]).returncode:
        sanitizers = []
    includes = [f"-I{SOURCES}", "-isystem", headers, "-isystem", headers / "executorch/runtime/core/portable_type/c10"]
    compile_sources(
        folder / "probe", "-O1", *WARNINGS, *sanitizers, "-DC10_USING_CUSTOM_GENERATED_MACROS", *includes,
        Path(__file__).with_name("probe_package.cpp"), SOURCES / "sparse_package.cpp", SOURCES / "block.cpp",
    )  # fmt: skip
    return folder / "probe"


def run_probe(probe: Path, contents: list[bytes], folder: Path) -> list[str]:
    paths = [folder / f"{number}.spte" for number in range(len(contents))]
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(content)
    done = subprocess.run([str(probe), *map(str, paths)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.splitlines()


def mix(total: int, data: bytes) -> int:
    for byte in data:
        total = ((total ^ byte) * 0x100000001B3) & MASK
    return total


def expect(content: bytes) -> str | None:
    """The probe's line for what the Python reader makes of it; None where that refuses it."""
    try:
        package = read_spte(content, "here")
        data = package.unpack_data()
    except (ArtifactError, ValueError):
        return None
    total = 0xCBF29CE484222325
    for block in package.blocks:
        total = mix(mix(total, block.key.encode()), data[block.offset : block.offset + block.header.size])
    return f"ok {len(package.blocks)} {mix(mix(total, data), bytes(package.program))}"


def make_blocks(seed: int) -> dict[str, bytes]:
    rng = np.random.default_rng(seed)
    found = {}
    for number, kind in enumerate(("<f4", "<f2", "<i1", "<u4", "<f4")):
        density, size = rng.choice([0, 0.003, 0.05, 0.3, 1.0]), int(rng.integers(0, 1200))
        words = (rng.normal(size=size) * 60).astype(kind)
        words[rng.random(size) >= density] = 0
        found[f"{kind}{number}"] = words.tobytes() + bytes(int(rng.integers(0, 3)))
    return found


def test_both_readers_give_the_same_bytes(probe: Path, tmp_path: Path) -> None:
    contents = [pack(bytes(range(seed, 200)), make_ptd(make_blocks(seed))) for seed in range(30)]
    special = struct.pack("<6f", -0.0, float("nan"), float("-inf"), 1e-45, 3e38, 0.0)
    contents.append(pack(b"", make_ptd({"special": special, "long": bytes(300_000) + special, "empty": b""})))
    expected = [expect(content) for content in contents]
    assert None not in expected
    assert run_probe(probe, contents, tmp_path) == expected


def test_both_readers_refuse_the_same_forgeries(probe: Path, tmp_path: Path) -> None:
    """Checksums fit, so what lies behind them is reached."""
    rng = np.random.default_rng(0)
    original = pack(b"program", make_ptd(make_blocks(3)))
    contents = []
    for number in range(600):
        content = bytearray(original)
        table = struct.unpack_from("<Q", content, 48)[0]
        first = 64 + sum(struct.unpack_from("<Q", content, at)[0] for at in (24, 40))
        limits = [(8, 56), (first, first + table), (first + table, len(content))][number % 3]
        for place in rng.integers(*limits, int(rng.integers(1, 4))):
            content[place] = rng.integers(256)
        struct.pack_into("<I", content, 56, zlib.crc32(memoryview(content)[64:]))
        struct.pack_into("<I", content, 60, zlib.crc32(memoryview(content)[:60]))
        contents.append(bytes(content))
    contents += [original[:cut] for cut in range(0, len(original), 97)]
    expected = [expect(content) for content in contents]
    found = run_probe(probe, contents, tmp_path)
    assert 50 < sum(line is not None for line in expected) < len(contents) - 50
    for line, answer in zip(expected, found, strict=True):
        assert answer == line if line else not answer.startswith("ok"), (line, answer)


def test_the_tool_writes_what_stock_runtimes_load(compiler: None, tmp_path: Path) -> None:
    compile_sources(
        tmp_path / "unpack",
        "-O2",
        *WARNINGS,
        SOURCES / "unpack.cpp",
        SOURCES / "sparse_package.cpp",
        SOURCES / "block.cpp",
    )
    data = make_ptd(make_blocks(1))
    (tmp_path / "model.spte").write_bytes(pack(b"a program", data))
    command = [str(tmp_path / "unpack"), *(str(tmp_path / name) for name in ("model.spte", "model.pte", "model.ptd"))]
    assert subprocess.run(command, capture_output=True).returncode == 0
    assert (tmp_path / "model.pte").read_bytes() == b"a program"
    assert (tmp_path / "model.ptd").read_bytes() == data
    (tmp_path / "model.spte").write_bytes(b"something else")
    refused = subprocess.run(command, capture_output=True, text=True)
    assert refused.returncode == 1 and "this is no sparse package" in refused.stderr
