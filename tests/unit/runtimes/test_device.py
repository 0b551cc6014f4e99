"""Reading what devices say, and the emulator kit's pins."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sctool.domain.device import Completed, Core, DeviceFacts
from sctool.errors import ArtifactError, DeviceError, NativeRuntimeMissing, SctoolError
from sctool.formats.pte import Delegate, Method, Program
from sctool.native.library import BACKEND
from sctool.runtimes.device.cross import build_sparse_runner, list_cross_compilers
from sctool.runtimes.device.facts import parse_facts, parse_properties
from sctool.runtimes.device.kit import _make_movable, _unpack_debian, find_kit, read_pins
from sctool.runtimes.device.local import LocalSession, affinity_mask, run_process
from sctool.runtimes.device.runner import RUNNERS, Refusal, Work, find_runner, read_line, work_arguments

ROOT = Path(__file__).resolve().parents[3]
SEEDS = ROOT / "fuzz" / "corpus"
SPARSE_PROGRAM = ROOT / "toolchain" / "sparse_runtime" / "fuzz" / "corpus" / "program.pte"
NOTHING = DeviceFacts(None, None, None, None, None, (), None)


@given(st.text())
def test_no_answer_of_a_device_crashes_the_reader(text: str) -> None:
    parse_facts(text)
    parse_facts(f"#properties\n{text}\n#clocks\n{text}\n#memory\n{text}")


def test_silence_is_unknown_not_a_guess() -> None:
    assert parse_facts("") == NOTHING
    assert NOTHING.cluster("big") == () and NOTHING.cluster("all") == ()


@given(
    st.dictionaries(
        st.from_regex(r"[a-z][a-z0-9._]{0,20}", fullmatch=True), st.from_regex(r"[^\[\]\r\n]{0,20}", fullmatch=True)
    )
)
def test_properties_round_trip(properties: dict[str, str]) -> None:
    plain = {key: value.strip() for key, value in properties.items() if value.isascii() and value.isprintable()}
    assert parse_properties("\n".join(f"[{key}]: [{value}]" for key, value in plain.items())) == plain


def test_clusters_need_every_clock() -> None:
    known = DeviceFacts(None, None, None, None, None, (Core(0, 1), Core(1, 2)), None)
    torn = DeviceFacts(None, None, None, None, None, (Core(0, 1), Core(1, None)), None)
    assert known.cluster("big") == (1,) and known.cluster("little") == (0,) and known.cluster("mid") == ()
    assert torn.cluster("big") == () and torn.cluster("all") == (0, 1)


@given(st.sets(st.integers(0, 63), min_size=1))
def test_masks_name_exactly_the_cores(cores: set[int]) -> None:
    mask = int(affinity_mask(sorted(cores)), 16)
    assert {core for core in range(64) if mask >> core & 1} == cores


def test_this_machine_is_a_device_too(tmp_path: Path) -> None:
    session = LocalSession()
    source = tmp_path / "a"
    source.write_bytes(b"content")
    pushed = session.push(source, "sub/a", executable=True)
    assert session.run(["cat", pushed], timeout_s=10).stdout == "content"
    assert session.run(["sh", "-c", "exit 3"], timeout_s=10).exit_code == 3
    session.pull("sub/a", tmp_path / "b")
    assert (tmp_path / "b").read_bytes() == b"content"
    with pytest.raises(DeviceError, match="holds no absent"):
        session.pull("absent", tmp_path / "c")
    assert session.facts().abi is not None
    session.close()
    assert not Path(session.folder).exists()


def test_a_process_that_hangs_ends_with_all_its_children() -> None:
    with pytest.raises(DeviceError, match="did not end within"):
        run_process(["sh", "-c", "sleep 600 & sleep 600"], timeout_s=0.5)
    with pytest.raises(DeviceError, match="Cannot start"):
        run_process(["/no/such/program"], timeout_s=1)


def test_pins_are_whole() -> None:
    pins = read_pins()
    packages = pins["debian"]["packages"]
    assert len({package["name"] for package in packages}) == len(packages) > 30
    assert all(re.fullmatch("[0-9a-f]{64}", item["sha256"]) and item["version"] for item in [pins["wheel"], *packages])


def test_a_package_that_debian_has_replaced_is_taken_by_its_signature(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pinned version of one of two is gone: the other keeps its hash, and a wrong one is still refused."""
    hashes = {name: hashlib.sha256(f"{name}=1".encode()).hexdigest() for name in ("old", "kept")}
    pins = {"packages": [{"name": name, "version": "1", "sha256": value} for name, value in hashes.items()]}
    gone, said = {"old=1"}, []

    def fake(command: list[str], *, folder: Path | None = None, **_: object) -> Completed:
        wanted = [part for part in command if part.partition("=")[0] in ("old", "kept")]
        if command[0] == "apt-cache":
            return Completed(100 if wanted[0] in gone else 0, "", "")
        if "download" in command and folder is not None:
            if gone & set(wanted):
                return Completed(100, "", "E: Version '1' for 'old' was not found")
            for part in wanted:
                (folder / f"{part.partition('=')[0]}_x.deb").write_text(part)
        return Completed(0, "", "")

    monkeypatch.setattr("sctool.runtimes.device.kit.run_process", fake)
    assert _unpack_debian(pins, tmp_path / "one", said.append) == ["old"]
    assert "newer versions than are pinned" in said[-1] and "old" in said[-1]
    pins["packages"][1]["sha256"] = "0" * 64
    with pytest.raises(NativeRuntimeMissing, match="pinned is 0000"):
        _unpack_debian(pins, tmp_path / "two", said.append)
    gone.clear()
    monkeypatch.setattr("sctool.runtimes.device.kit.run_process", lambda *_, **__: Completed(100, "", "E: no network"))
    gone.update(("old=1", "kept=1"))
    with pytest.raises(NativeRuntimeMissing, match="no network"):
        _unpack_debian(pins, tmp_path / "three", said.append)


def test_without_the_kit_the_next_step_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCTOOL_CACHE", str(tmp_path))
    with pytest.raises(NativeRuntimeMissing, match="--install-emulator"):
        find_kit()


def test_runners_are_found_by_what_a_file_is(tmp_path: Path) -> None:
    assert all(create().kind == name for name, create in RUNNERS.items())
    found = [find_runner(path) for path in (Path("m.onnx"), SPARSE_PROGRAM)]
    assert [runner.kind for runner in found if not isinstance(runner, Refusal)] == ["onnxruntime", "sparse"]
    damaged = tmp_path / "m.pte"
    damaged.write_bytes(SPARSE_PROGRAM.read_bytes()[:700])
    assert not isinstance(find_runner(damaged), Refusal), "the runner itself says what is wrong with it"


def test_what_no_runner_takes_has_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    stock = find_runner(SEEDS / "pte/float32.pte")
    assert isinstance(stock, Refusal) and "--executorch-runner" in stock.reason
    package = find_runner(SEEDS / "spte/float32.spte")
    assert isinstance(package, Refusal) and ".spte" in package.reason
    parts = [Delegate(backend, 1, []) for backend in (BACKEND, "XnnpackBackend")]
    mixed = Program([Method("forward", [], [], ["aten::add.out"], parts, [])])
    monkeypatch.setattr("sctool.runtimes.device.runner.read_program", lambda content, where: mixed)
    refused = find_runner(SPARSE_PROGRAM)
    assert isinstance(refused, Refusal) and "1 of its parts" in refused.reason
    assert "XnnpackBackend, plain operators" in refused.reason


def test_compilers_for_arm_are_found_where_people_have_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCTOOL_CACHE", str(tmp_path))
    for name in ("ANDROID_NDK_ROOT", "ANDROID_NDK", "ANDROID_HOME", "ANDROID_SDK_ROOT"):
        monkeypatch.delenv(name, raising=False)
    programs, ndk = tmp_path / "bin", tmp_path / "ndk/27"
    programs.mkdir()
    monkeypatch.setenv("PATH", str(programs))
    monkeypatch.setenv("ANDROID_NDK_HOME", str(ndk))
    monkeypatch.setattr("sctool.runtimes.device.cross.find_spec", lambda name: None)
    assert list_cross_compilers() == []
    monkeypatch.setattr("sctool.runtimes.device.cross.missing_tools", lambda: ["a C++ compiler (g++ or clang++)"])
    with pytest.raises(NativeRuntimeMissing, match="no C\\+\\+ compiler for aarch64"):
        build_sparse_runner()
    for path in (programs / "aarch64-linux-gnu-g++", programs / "zig", ndk / "build/cmake/android.toolchain.cmake"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("#!/bin/sh\n")
        path.chmod(0o755)
    found = list_cross_compilers()
    assert [compiler.program.name for compiler in found] == ["aarch64-linux-gnu-g++", "zig", "android.toolchain.cmake"]
    assert all(any(option.startswith("-DCMAKE_") for option in compiler.options) for compiler in found)


def test_the_command_line_says_all_of_the_work() -> None:
    line = work_arguments(Work("m", "i", "o", (3, 8, 8), 2, 4, 5, 6, 7))
    assert line == ["--model", "m", "--input", "i", "--output", "o", "--shape", "3,8,8", "--batch", "2", "--threads", "4",
                    "--warm-up", "5", "--iterations", "6", "--warm-loads", "7"]  # fmt: skip


@pytest.mark.parametrize(
    ("done", "error", "text"),
    [
        (Completed(5, "", "ort_runner: m: no such operator"), ArtifactError, "no such operator"),
        (Completed(4, "", "ort_runner: lib: missing"), NativeRuntimeMissing, "missing"),
        (Completed(3, "", "ort_runner: x: No space left"), DeviceError, "No space left"),
        (Completed(139, "", ""), DeviceError, "ended with 139"),
        (Completed(0, "no json at all", ""), DeviceError, "ended with 0"),
        (Completed(0, "{broken", ""), DeviceError, "no JSON"),
        (Completed(0, '{"schema": 2}', ""), DeviceError, "another version"),
    ],
)
def test_what_a_runner_ends_with(done: Completed, error: type[SctoolError], text: str) -> None:
    with pytest.raises(error, match=text):
        read_line(done, "m")


def test_the_last_json_line_counts() -> None:
    assert read_line(Completed(0, 'chatter\n{"schema": 1, "a": 2}\n', "warnings"), "m") == {"schema": 1, "a": 2}


def test_linker_scripts_of_the_kit_name_no_place(tmp_path: Path) -> None:
    """Debian's libc.so names the C library under /usr, where it does not lie when the kit is in a cache folder."""
    libraries = tmp_path / "usr/aarch64-linux-gnu/lib"
    libraries.mkdir(parents=True)
    group = "GROUP ( {0}libc.so.6 {0}libc_nonshared.a AS_NEEDED ( {0}ld-linux-aarch64.so.1 ) )\n"
    head = "/* GNU ld script\n   Use the shared library. */\n"
    (libraries / "libc.so").write_text(head + group.format("/usr/aarch64-linux-gnu/lib/"))
    (libraries / "libother.so").write_bytes(binary := b"\x7fELF /usr/aarch64-linux-gnu/lib/")
    (libraries / "libgone.so").symlink_to("nowhere")
    _make_movable(tmp_path)
    assert (libraries / "libc.so").read_text() == head + group.format("")
    assert (libraries / "libother.so").read_bytes() == binary
