"""Coverage-guided fuzzing of all that reads a file which a user names: packages, programs, data files, ONNX, manifests.

    python fuzz/fuzz_readers.py                   # every target, ten minutes in all
    python fuzz/fuzz_readers.py --seconds 5       # a smoke run
    python fuzz/fuzz_readers.py --target spte     # one of them

Needs `pip install '.[fuzz]'`. Each target runs in a process of its own, from the seeds in fuzz/corpus/TARGET; what it finds
along the way is in runs/fuzz/TARGET. Anything but an ArtifactError, a crash, an input that takes ten seconds or 2 GiB is
a finding: the input is kept and the exit code is 1.
"""

from __future__ import annotations

import argparse
import json
import re
import struct
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["sctool.formats", "sctool.export"], enable_loader_override=False):
    from sctool.errors import ArtifactError
    from sctool.export.constant_graph import extract_constants, find_constants
    from sctool.export.inspect_executorch import inspect_ptd, inspect_pte, inspect_spte
    from sctool.export.inspect_onnx import inspect_onnx
    from sctool.export.manifest import FILE as MANIFEST
    from sctool.export.manifest import read_manifest
    from sctool.export.model_card import write_model_card
    from sctool.formats.spte import read_spte

HERE = Path(__file__).resolve().parent
TEN_MINUTES = 600
MOST_BYTES = 16384
MEMORY = Path("/dev/shm")
SCRATCH = Path(tempfile.mkdtemp(prefix="sctool-fuzz-", dir=MEMORY if MEMORY.is_dir() else None))
"""In memory where that goes: a disk that stalls for ten seconds is no finding."""


def fuzz_spte(content: bytes) -> None:
    """Checksums are mended, so that what lies behind them is reached."""
    if len(content) >= 64:
        spoilt = bytearray(content)
        struct.pack_into("<Q", spoilt, 16, len(spoilt))
        struct.pack_into("<I", spoilt, 56, zlib.crc32(memoryview(spoilt)[64:]))
        struct.pack_into("<I", spoilt, 60, zlib.crc32(memoryview(spoilt)[:60]))
        content = bytes(spoilt)
    inspect_spte(content, "here")
    package = read_spte(content, "here")
    try:
        data = package.unpack_data()
    except ValueError:
        return
    assert len(data) == package.data_bytes <= 65536 * len(content)


def fuzz_pte(content: bytes) -> None:
    json.dumps(inspect_pte(content, "here").to_json())


def fuzz_ptd(content: bytes) -> None:
    json.dumps(inspect_ptd(content, "here").to_json())


def fuzz_manifest(content: bytes) -> None:
    (SCRATCH / MANIFEST).write_bytes(content)
    write_model_card(SCRATCH, read_manifest(SCRATCH), None)


def fuzz_onnx(content: bytes) -> None:
    """Without the process that evaluates constants: that has limits of its own."""
    import onnx

    path = SCRATCH / "model.onnx"
    path.write_bytes(content)
    inspect_onnx(path)
    model = onnx.load_from_string(content)
    for tensor in find_constants(model.graph)[:20]:
        extract_constants(model, tensor)


TARGETS: dict[str, Callable[[bytes], None]] = {
    "spte": fuzz_spte, "pte": fuzz_pte, "ptd": fuzz_ptd, "manifest": fuzz_manifest, "onnx": fuzz_onnx,
}  # fmt: skip


def run_target(name: str, seconds: int) -> None:
    """Never returns: libFuzzer ends the process."""
    import sctool.export.inspect_onnx

    sctool.export.inspect_onnx.count_constants = lambda path, names: {}  # type: ignore[assignment]
    target = TARGETS[name]

    def once(content: bytes) -> None:
        try:
            target(content)
        except ArtifactError as error:
            assert error.message and error.exit_code == 8

    found = Path("runs/fuzz") / name
    found.mkdir(parents=True, exist_ok=True)
    options = [
        f"-max_total_time={seconds}", f"-max_len={MOST_BYTES}", "-timeout=10", "-rss_limit_mb=2048", "-print_final_stats=1",
        f"-artifact_prefix={found}/finding-", str(found), str(HERE / "corpus" / name),
    ]  # fmt: skip
    atheris.Setup([sys.argv[0], *options], once)
    atheris.Fuzz()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", choices=TARGETS)
    parser.add_argument("--seconds", type=int, default=TEN_MINUTES, help="of all targets together")
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    names = [options.target] if options.target else list(TARGETS)
    if options.alone:
        run_target(options.target, options.seconds)
    findings = 0
    for name in names:
        each = max(options.seconds // len(names), 1)
        command = [sys.executable, __file__, "--alone", "--target", name, "--seconds", str(each)]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
        runs = re.search(r"number_of_executed_units: (\d+)", done.stdout)
        print(
            f"{name}: {runs[1] if runs else '?'} inputs in {each} s, {'FINDING' if done.returncode else 'nothing found'}"
        )
        if done.returncode:
            findings += 1
            print(done.stdout[-3000:])
    return 1 if findings else 0


if __name__ == "__main__":
    raise SystemExit(main())
