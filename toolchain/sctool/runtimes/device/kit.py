"""The emulator kit: QEMU, a cross-compiler, an Arm C library and ONNX Runtime, in a cache folder, without root.

What is fetched is pinned by version and SHA-256 in toolchain/device_runner/emulator.toml. A Debian package that a fix has
replaced since is taken in its new version, which apt checks by Debian's signature; the kit keeps a list of these.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import sys
import tempfile
import tomllib
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sctool.atomic import new_directory, write_json
from sctool.domain.device import Completed
from sctool.errors import NativeRuntimeMissing
from sctool.resources import device_runner_folder
from sctool.runtimes.device.local import run_process

CPU = "cortex-a76"
CPUINFO = """processor\t: 0
BogoMIPS\t: 38.40
Features\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x1
CPU part\t: 0xd0b
CPU revision\t: 0

"""
"""What /proc/cpuinfo says on that processor; without it the guest reads the host's, which ONNX Runtime cannot parse."""
LIBRARIES = ("ld-linux-aarch64.so.1", "libc.so.6", "libm.so.6", "libdl.so.2", "libpthread.so.0", "librt.so.1",
             "libstdc++.so.6", "libgcc_s.so.1")  # fmt: skip
ORT_LIBRARY = "libonnxruntime.so"
MARKER = "kit.json"
DOWNLOAD_TIMEOUT_S = 900.0
HINT = "`sctool doctor --install-emulator` installs it."
Say = Callable[[str], None]


@dataclass(frozen=True)
class EmulatorKit:
    """Where its parts lie. `library_path`: what `qemu` and `compiler` need on LD_LIBRARY_PATH; None: nothing."""

    folder: Path
    qemu: Path
    compiler: Path
    library_path: Path | None
    arm: Path

    @property
    def environment(self) -> dict[str, str]:
        return {"LD_LIBRARY_PATH": str(self.library_path)} if self.library_path else {}


def cache_folder() -> Path:
    """SCTOOL_CACHE, else sctool under XDG_CACHE_HOME or ~/.cache."""
    if named := os.environ.get("SCTOOL_CACHE"):
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sctool"


def read_pins() -> dict[str, Any]:
    """The contents of emulator.toml."""
    return tomllib.loads((device_runner_folder() / "emulator.toml").read_text(encoding="utf-8"))


def kit_folder() -> Path:
    """Where the kit of these pins lies, or will."""
    digest = hashlib.sha256((device_runner_folder() / "emulator.toml").read_bytes()).hexdigest()
    return cache_folder() / f"emulator-{digest[:12]}"


def find_kit() -> EmulatorKit:
    """The installed kit. NativeRuntimeMissing where there is none."""
    folder = kit_folder()
    if not (folder / MARKER).is_file():
        raise NativeRuntimeMissing(f"The Arm emulator is not installed in {folder}.", hint=HINT)
    return _describe(folder)


def install_kit(say: Say = lambda text: None, *, overwrite: bool = False) -> EmulatorKit:
    """Fetch and unpack the kit into the cache folder, all of it or nothing; an installed one stays as it is.

    Raises NativeRuntimeMissing where a part cannot be had, or is not what its hash says.
    """
    folder = kit_folder()
    if (folder / MARKER).is_file() and not overwrite:
        return _describe(folder)
    if platform.machine() not in ("x86_64", "AMD64") or sys.platform != "linux":
        raise NativeRuntimeMissing(
            f"The Arm emulator is set up on x86-64 Linux alone; this is {sys.platform} {platform.machine()}.",
            hint="Attach a phone, or use an x86-64 Linux machine.",
        )
    pins = read_pins()
    with new_directory(folder, marker=MARKER, overwrite=True) as staging:
        replaced = []
        if _is_pinned_debian(pins["debian"]):
            replaced = _unpack_debian(pins["debian"], staging / "debian", say)
        kit = _describe(staging)
        _collect_arm(kit, pins["wheel"], say)
        write_json(staging / MARKER, {"replaced": replaced})
    say(f"installed in {folder}")
    return _describe(folder)


def list_replaced(kit: EmulatorKit) -> list[str]:
    """Debian packages of the kit that are newer than the pinned ones: counts may differ from those of a pinned kit."""
    try:
        found = json.loads((kit.folder / MARKER).read_text(encoding="utf-8"))["replaced"]
    except (OSError, ValueError, LookupError, TypeError):
        return []
    return [str(name) for name in found]


def _describe(folder: Path) -> EmulatorKit:
    root = folder / "debian"
    if root.is_dir():
        return EmulatorKit(
            folder, root / "usr/bin/qemu-aarch64", root / "usr/bin/aarch64-linux-gnu-gcc-12",
            root / "usr/lib/x86_64-linux-gnu", folder / "arm",
        )  # fmt: skip
    qemu, compiler = shutil.which("qemu-aarch64"), shutil.which("aarch64-linux-gnu-gcc")
    if not qemu or not compiler:
        raise NativeRuntimeMissing(
            "qemu-aarch64 and aarch64-linux-gnu-gcc are not installed.",
            hint="Install your system's qemu-user, gcc-aarch64-linux-gnu and libc6-dev-arm64-cross.",
        )
    return EmulatorKit(folder, Path(qemu), Path(compiler), None, folder / "arm")


def _is_pinned_debian(pins: dict[str, Any]) -> bool:
    try:
        release = Path("/etc/os-release").read_text(encoding="utf-8")
    except OSError:
        return False
    named = f"VERSION_CODENAME={pins['suite']}" in release.splitlines()
    return named and all(shutil.which(program) for program in ("apt-get", "dpkg-deb"))


def _unpack_debian(pins: dict[str, Any], root: Path, say: Say) -> list[str]:
    """With lists and archives of our own, so that neither root nor the system's own state is needed.

    Returns the packages that are there in a newer version than the pinned one, which Debian no longer has.
    """
    packages = {package["name"]: package for package in pins["packages"]}
    with tempfile.TemporaryDirectory(prefix="sctool-apt-") as temporary:
        state, archives = Path(temporary) / "state", Path(temporary) / "archives"
        for folder in (state / "lists/partial", state / "cache/archives/partial", archives):
            folder.mkdir(parents=True)
        own = [f"Dir::State::Lists={state / 'lists'}", f"Dir::Cache={state / 'cache'}", "Debug::NoLocking=1"]
        if hasattr(os, "geteuid") and os.geteuid() == 0:
            own.append("APT::Sandbox::User=root")
        options = [part for option in own for part in ("-o", option)]
        say("reading Debian's package lists")
        _demand(
            run_process(["apt-get", *options, "update"], timeout_s=DOWNLOAD_TIMEOUT_S), "read Debian's package lists"
        )
        say(f"fetching {len(packages)} Debian packages")
        wanted = {name: f"{name}={package['version']}" for name, package in packages.items()}
        fetch = ["apt-get", *options, "download"]
        done = run_process([*fetch, *wanted.values()], folder=archives, timeout_s=DOWNLOAD_TIMEOUT_S)
        replaced = _find_replaced(wanted, options) if done.exit_code else []
        if replaced:
            say(f"Debian has newer versions than are pinned, and signs for them: {', '.join(replaced)}")
            wanted |= {name: name for name in replaced}
            done = run_process([*fetch, *wanted.values()], folder=archives, timeout_s=DOWNLOAD_TIMEOUT_S)
        _demand(done, "fetch the pinned Debian packages")
        root.mkdir()
        for archive in sorted(archives.glob("*.deb")):
            name = archive.name.partition("_")[0]
            if name not in replaced:
                _check_hash(archive, packages[name]["sha256"])
            _demand(run_process(["dpkg-deb", "-x", str(archive), str(root)], timeout_s=300), f"unpack {archive.name}")
        if len(list(archives.glob("*.deb"))) != len(packages):
            raise NativeRuntimeMissing("Debian gave fewer packages than are pinned.", hint="Try again.")
    _make_movable(root)
    return replaced


def _make_movable(root: Path) -> None:
    """Let the linker find the C library where it lies: Debian's linker scripts name it where the system would have it."""
    libraries = root / "usr/aarch64-linux-gnu/lib"
    for script in libraries.glob("*.so"):
        content = script.read_bytes() if script.is_file() and not script.is_symlink() else b""
        if content.startswith(b"/* GNU ld script"):
            script.write_bytes(content.replace(b"/usr/aarch64-linux-gnu/lib/", b""))


def _find_replaced(wanted: Mapping[str, str], options: Sequence[str]) -> list[str]:
    """Packages whose pinned version is in no list any more: a fix took its place. apt holds what it fetches instead
    against the hash in a list that Debian's key has signed."""
    shown = {
        name: run_process(["apt-cache", *options, "show", exact], timeout_s=60).exit_code
        for name, exact in wanted.items()
    }
    return [name for name, code in shown.items() if code]


def _collect_arm(kit: EmulatorKit, wheel: dict[str, Any], say: Say) -> None:
    """The folder that runs on any aarch64 Linux: loader, C and C++ libraries, ONNX Runtime."""
    (kit.arm / "proc").mkdir(parents=True)
    (kit.arm / "proc/cpuinfo").write_text(CPUINFO)
    for name in LIBRARIES:
        done = run_process([str(kit.compiler), f"-print-file-name={name}"], timeout_s=30, environment=kit.environment)
        found = Path(done.stdout.strip())
        if not found.is_absolute():
            raise NativeRuntimeMissing(f"{kit.compiler} knows no Arm {name}.", hint="Install libstdc++6-arm64-cross.")
        shutil.copyfile(found, kit.arm / name)
        (kit.arm / name).chmod(0o755)
    say(f"fetching {wheel['name']} {wheel['version']} for aarch64")
    with tempfile.TemporaryDirectory(prefix="sctool-wheel-") as temporary:
        platforms = [part for name in wheel["platforms"] for part in ("--platform", name)]
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", *platforms,
                   "--python-version", wheel["python"], "-d", temporary, f"{wheel['name']}=={wheel['version']}"]  # fmt: skip
        _demand(run_process(command, timeout_s=DOWNLOAD_TIMEOUT_S), f"fetch {wheel['name']} {wheel['version']}")
        archive = next(iter(Path(temporary).glob("*.whl")))
        _check_hash(archive, wheel["sha256"])
        with (
            zipfile.ZipFile(archive) as content,
            content.open(wheel["member"]) as source,
            (kit.arm / ORT_LIBRARY).open("wb") as target,
        ):
            shutil.copyfileobj(source, target)
    (kit.arm / ORT_LIBRARY).chmod(0o755)


def _check_hash(path: Path, expected: str) -> None:
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != expected:
        raise NativeRuntimeMissing(
            f"{path.name} has sha256 {found[:12]}..., pinned is {expected[:12]}....", hint="It was not installed."
        )


def _demand(done: Completed, what: str) -> None:
    if done.exit_code:
        lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()] or ["no message"]
        telling = [line for line in lines if line.startswith(("E:", "ERROR"))] or lines
        raise NativeRuntimeMissing(
            f"Cannot {what}: {telling[-1].strip()}.",
            hint="Are the package registries reached? A newer sctool pins newer versions.",
        )
