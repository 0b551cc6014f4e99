"""Debian's arm64 adbd, the daemon that phones run, emulated in namespaces of its own: no root, nothing of it stays.

`fetch_root` unpacks it with a shell and the tools that phones have; as a program, inside the namespaces, this file makes a
root of that, starts the daemon there, connects adb and runs a command.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from sctool.runtimes.device.adb import find_adb
from sctool.runtimes.device.kit import EmulatorKit, cache_folder

SUITE, PACKAGES = "trixie", ("adbd", "busybox-static", "util-linux")
SERIAL = "127.0.0.1:5555"
TOOLS = ("sh", "cat", "chmod", "echo", "grep", "ls", "mkdir", "rm", "sed", "sleep", "tail", "uname", "wc")
MAGIC = rb"\x7fELF\x02\x01\x01" + rb"\x00" * 9 + rb"\x02\x00\xb7\x00"
MASK = rb"\xff" * 7 + rb"\x00" + rb"\xff" * 8 + rb"\xfe\xff\xff\xff"
FORBIDDEN = 77
"""Ends with it where the kernel does not let these namespaces mount or name an interpreter of their own."""
DAEMON = "/usr/lib/android-sdk/platform-tools/adbd"


class Unavailable(Exception):
    """Why the daemon cannot be had here."""


def fetch_root(kit: EmulatorKit) -> Path:
    """The daemon's root, from Debian's own signed lists, in the cache; QEMU and its libraries are in it."""
    for program in ("unshare", "apt-get", "dpkg-deb", "ldd", "chroot"):
        if shutil.which(program) is None:
            raise Unavailable(f"{program} is not installed")
    if subprocess.run(["unshare", "-rnmpf", "--mount-proc", "true"], capture_output=True, check=False).returncode:
        raise Unavailable("user namespaces are not allowed")
    root = cache_folder() / f"adbd-{SUITE}-{kit.folder.name[-12:]}"
    if root.is_dir():
        return root
    root.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=root.parent, prefix=".adbd-") as folder:
        work = Path(folder)
        _unpack(_download(work), work / "root")
        _add_emulator(kit, work / "root")
        os.replace(work / "root", root)
    return root


def _download(work: Path) -> list[Path]:
    listed = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI)"], capture_output=True, text=True, check=False
    )
    mirror = next((line for line in listed.stdout.split() if line.rstrip("/").endswith("/debian")), None)
    if mirror is None:
        raise Unavailable("this is no Debian")
    for name in ("lists/partial", "cache/archives/partial"):
        (work / name).mkdir(parents=True)
    (work / "status").touch()
    keys = "/usr/share/keyrings/debian-archive-keyring.gpg"
    (work / "sources.list").write_text(f"deb [arch=arm64 signed-by={keys}] {mirror} {SUITE} main\n")
    settings = {
        "Dir::Etc::sourcelist": work / "sources.list", "Dir::Etc::sourceparts": "-", "Dir::State::Lists": work / "lists",
        "Dir::State::status": work / "status", "Dir::Cache": work / "cache", "APT::Architecture": "arm64",
        "APT::Architectures": "arm64", "Debug::NoLocking": "1", "APT::Sandbox::User": "root",
        "APT::Install-Recommends": "0",
    }  # fmt: skip
    (work / "apt.conf").write_text("".join(f'{name} "{value}";\n' for name, value in settings.items()))
    environment = {**os.environ, "APT_CONFIG": str(work / "apt.conf")}
    for command in (["update"], ["install", "--yes", "--download-only", *PACKAGES]):
        done = subprocess.run(
            ["apt-get", *command], capture_output=True, text=True, env=environment, timeout=300, check=False
        )
        if done.returncode:
            raise Unavailable(f"Debian's packages are not reached: {(done.stderr.strip() or 'no message')[-200:]}")
    return sorted((work / "cache/archives").glob("*.deb"))


def _unpack(archives: list[Path], root: Path) -> None:
    for archive in archives:
        subprocess.run(["dpkg-deb", "-x", archive, root], check=True)
    for name in ("bin", "sbin", "lib"):
        if not (root / name).exists():
            (root / name).symlink_to(f"usr/{name}")
    for name in ("proc", "dev", "sys", "tmp", "data/local/tmp", "lib64"):
        (root / name).mkdir(parents=True, exist_ok=True)
    for tool in TOOLS:
        if not (root / "usr/bin" / tool).exists():
            (root / "usr/bin" / tool).symlink_to("busybox")


def _add_emulator(kit: EmulatorKit, root: Path) -> None:
    """Its libraries where the loader looks for them inside the root; what /proc/cpuinfo is to say lies beside."""
    shutil.copyfile(kit.arm / "proc/cpuinfo", root / "cpuinfo")
    linked = subprocess.run(
        ["ldd", str(kit.qemu)], capture_output=True, text=True, env={**os.environ, **kit.environment}, check=True
    )
    folder = root / "usr/lib/x86_64-linux-gnu"
    folder.mkdir(parents=True, exist_ok=True)
    for line in linked.stdout.splitlines():
        path = next((word for word in line.split() if word.startswith("/")), None)
        if path:
            shutil.copyfile(path, folder / Path(path).name)
            (folder / Path(path).name).chmod(0o755)
    loader = next(path for path in folder.iterdir() if path.name.startswith("ld-linux"))
    shutil.copy(loader, root / "lib64" / loader.name)


def wrap(root: Path, kit: EmulatorKit, command: list[str]) -> list[str]:
    """`command` with the daemon attached as SERIAL, in namespaces of its own."""
    inside = json.dumps({"root": str(root), "qemu": str(kit.qemu), "command": command})
    return ["unshare", "-rnmpf", "--mount-proc", sys.executable, "-m", "tests.device.real_adbd", inside]


def _bring_up_loopback() -> None:
    with socket.socket() as probe:
        fcntl.ioctl(probe, 0x8914, struct.pack("16sH14x", b"lo", 0x1 | 0x40))  # SIOCSIFFLAGS: up, running


def _run_inside(root: Path, qemu: Path, command: list[str]) -> int:
    try:
        _bring_up_loopback()
        _mount(root, qemu)
    except (OSError, subprocess.CalledProcessError) as error:
        print(error, file=sys.stderr)
        return FORBIDDEN
    daemon = subprocess.Popen(["chroot", root, DAEMON], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    adb = find_adb()
    try:
        for _ in range(60):
            done = subprocess.run([adb, "connect", SERIAL], capture_output=True, text=True, check=False)
            if done.stdout.startswith(("connected", "already")):
                break
            time.sleep(0.5)
        return subprocess.run(command, check=False).returncode
    finally:
        subprocess.run([adb, "kill-server"], capture_output=True, check=False)
        daemon.kill()


def _mount(root: Path, qemu: Path) -> None:
    mounts = [
        ["-t", "binfmt_misc", "binfmt_misc", "/proc/sys/fs/binfmt_misc"], ["-t", "tmpfs", "tmpfs", root / "data/local/tmp"],
        ["-t", "proc", "proc", root / "proc"], ["--bind", root / "cpuinfo", root / "proc/cpuinfo"],
        ["--rbind", "/dev", root / "dev"],
    ]  # fmt: skip
    for mount in mounts:
        subprocess.run(["mount", *mount], check=True)
    rule = b":sctool:M::" + MAGIC + b":" + MASK + b":" + os.fsencode(qemu) + b":POCF"
    Path("/proc/sys/fs/binfmt_misc/register").write_bytes(rule)


if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    sys.exit(_run_inside(Path(given["root"]), Path(given["qemu"]), given["command"]))
