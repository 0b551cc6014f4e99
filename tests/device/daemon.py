"""A stand-in for a phone: a daemon that speaks the adb transport on loopback, for the real adb client.

Commands run in a folder that plays the phone's root; aarch64 programs run under QEMU where `emulator` is given. It fails
as phones do, when told to (`Faults`).
"""

from __future__ import annotations

import contextlib
import os
import queue
import re
import shutil
import signal
import socket
import stat
import struct
import subprocess
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

CNXN, AUTH, OPEN, OKAY, WRTE, CLSE = (
    int.from_bytes(name, "little") for name in (b"CNXN", b"AUTH", b"OPEN", b"OKAY", b"WRTE", b"CLSE")
)
MAX_PAYLOAD = 256 * 1024
AARCH64 = b"\xb7\0"
"""An ELF file's machine."""
STDIN, STDOUT, STDERR, EXIT = 0, 1, 2, 3
SUBSTITUTED = ("/data/local/tmp", "/sys/devices/system/cpu", "/sys/class/thermal", "/proc/cpuinfo", "/proc/meminfo")


@dataclass
class Faults:
    """What goes wrong; all None or False: nothing."""

    unauthorised: bool = False
    silent: bool = False
    no_shell_v2: bool = False
    unplug_after_bytes: int | None = None
    full_after_bytes: int | None = None
    cut_after_bytes: int | None = None
    hang_on: str | None = None
    unplug_on: str | None = None
    lose_exit_of: str | None = None


@dataclass
class Daemon:
    """One phone. `root` holds its files, `getprop` among them."""

    root: Path
    emulator: Sequence[str] = ()
    environment: dict[str, str] = field(default_factory=dict)
    faults: Faults = field(default_factory=Faults)

    def __post_init__(self) -> None:
        for folder in ("data/local/tmp", "sys/devices/system/cpu", "sys/class/thermal", "proc", "bin"):
            (self.root / folder).mkdir(parents=True, exist_ok=True)
        self._program("getprop", f'cat "{self.root}/getprop" 2>/dev/null')
        self._program("dumpsys", f'cat "{self.root}/dumpsys-$1" 2>/dev/null')
        self._program("cmd", "exit 1")
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._connections: list[socket.socket] = []
        self._processes: set[subprocess.Popen[bytes]] = set()
        self.commands: list[str] = []
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def serial(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def left_behind(self) -> list[str]:
        """What lies in /data/local/tmp."""
        return sorted(path.name for path in (self.root / "data/local/tmp").iterdir())

    def left_behind_in_full(self) -> set[str]:
        """The names of all files below /data/local/tmp."""
        return {path.name for path in (self.root / "data/local/tmp").rglob("*")}

    def unplug(self) -> None:
        """Every connection ends at once, as do the commands that ran in them."""
        for connection in self._connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()
        self._connections.clear()
        for process in list(self._processes):
            _end(process)

    def close(self) -> None:
        self._listener.close()
        self.unplug()

    def _program(self, name: str, body: str) -> None:
        path = self.root / "bin" / name
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._connections.append(connection)
            threading.Thread(target=_Transport(self, connection).serve, daemon=True).start()

    def host_path(self, path: str) -> Path:
        """Where the phone's `path` lies on this machine; nothing outside the root is ever named."""
        return self.root / os.path.normpath("/" + path).lstrip("/")

    def _emulate(self, found: re.Match[str]) -> str:
        """An aarch64 program at the beginning of a command goes to the emulator, whatever it is called."""
        path = Path(found[2])
        arm = path.is_file() and path.read_bytes()[:20].startswith(b"\x7fELF") and path.read_bytes()[18:20] == AARCH64
        return f"{found[1]}{' '.join(self.emulator)} {found[2]}" if arm else found[0]

    def start(self, command: str, *, merged: bool) -> subprocess.Popen[bytes]:
        """Run a shell command as the phone would."""
        self.commands.append(command)
        for prefix in SUBSTITUTED:
            command = command.replace(prefix, f"{self.root}{prefix}")
        if self.emulator:
            command = re.sub(r"(?<=&& )((?:taskset [0-9a-f]+ )?)(\S+)", self._emulate, command)
        environment = {**os.environ, **self.environment, "PATH": f"{self.root}/bin:{os.environ['PATH']}"}
        process = subprocess.Popen(
            ["sh", "-c", command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT if merged else subprocess.PIPE, start_new_session=True, env=environment,
        )  # fmt: skip
        self._processes.add(process)
        return process


class _Transport:
    """One connection of an adb server."""

    def __init__(self, daemon: Daemon, connection: socket.socket) -> None:
        self._daemon, self._connection = daemon, connection
        self._streams: dict[int, _Stream] = {}
        self._lock = threading.Lock()

    def serve(self) -> None:
        with contextlib.suppress(OSError, EOFError):
            while True:
                command, arg0, arg1, payload = self._read()
                if command == CNXN:
                    self._greet()
                elif command == AUTH:
                    self._challenge()
                elif command == OPEN:
                    service = payload.rstrip(b"\0").decode()
                    stream = _Stream(self, arg0, len(self._streams) + 1)
                    self._streams[stream.local] = stream
                    self.send(OKAY, stream.local, arg0)
                    threading.Thread(target=self._run, args=(stream, service), daemon=True).start()
                elif command == WRTE and arg1 in self._streams:
                    self._streams[arg1].received.put(payload)
                    self.send(OKAY, arg1, arg0)
                elif command == OKAY and arg1 in self._streams:
                    self._streams[arg1].ready.set()
                elif command == CLSE and arg1 in self._streams:
                    self._streams[arg1].end()
        for stream in list(self._streams.values()):
            stream.end()

    def send(self, command: int, arg0: int, arg1: int, payload: bytes = b"") -> None:
        header = struct.pack("<6I", command, arg0, arg1, len(payload), sum(payload) & 0xFFFFFFFF, command ^ 0xFFFFFFFF)
        with self._lock:
            self._connection.sendall(header + payload)

    def _read(self) -> tuple[int, int, int, bytes]:
        command, arg0, arg1, length, _, _ = struct.unpack("<6I", _read_exactly(self._connection.recv, 24))
        return command, arg0, arg1, _read_exactly(self._connection.recv, length)

    def _greet(self) -> None:
        faults = self._daemon.faults
        if faults.silent:
            return
        if faults.unauthorised:
            self._challenge()
            return
        features = "cmd,stat_v2,ls_v2" if faults.no_shell_v2 else "shell_v2,cmd,stat_v2,ls_v2"
        banner = (
            f"device::ro.product.name=standin;ro.product.model=standin;ro.product.device=standin;features={features}"
        )
        self.send(CNXN, 0x01000001, MAX_PAYLOAD, banner.encode())

    def _challenge(self) -> None:
        """A token that no signature ever answers to the phone's content."""
        self.send(AUTH, 1, 0, b"0123456789abcdef0123")

    def _run(self, stream: _Stream, service: str) -> None:
        kind, _, rest = service.partition(":")
        with contextlib.suppress(OSError, EOFError):
            if kind.startswith("shell"):
                _Shell(self._daemon, stream, v2=",v2" in kind or "v2" in kind.split(",")).run(rest)
            elif kind == "sync":
                _Sync(self._daemon, stream).run()
        stream.close()


class _Stream:
    """One service's channel: at most one unacknowledged write, as the protocol wants."""

    def __init__(self, transport: _Transport, remote: int, local: int) -> None:
        self._transport, self._remote, self.local = transport, remote, local
        self.received: queue.Queue[bytes | None] = queue.Queue()
        self.ready = threading.Event()
        self.ready.set()
        self.closed = False
        self._rest = b""
        self.on_end: Callable[[], None] = lambda: None

    def write(self, data: bytes) -> None:
        for i in range(0, len(data), MAX_PAYLOAD):
            self.ready.wait()
            if self.closed:
                raise EOFError
            self.ready.clear()
            self._transport.send(WRTE, self.local, self._remote, data[i : i + MAX_PAYLOAD])

    def read(self, size: int) -> bytes:
        while len(self._rest) < size:
            piece = self.received.get()
            if piece is None:
                raise EOFError
            self._rest += piece
        data, self._rest = self._rest[:size], self._rest[size:]
        return data

    def end(self) -> None:
        """The other side is gone."""
        self.closed = True
        self.ready.set()
        self.received.put(None)
        self.on_end()

    def close(self) -> None:
        if not self.closed:
            self.ready.wait(5)
            with contextlib.suppress(OSError):
                self._transport.send(CLSE, self.local, self._remote)


class _Shell:
    def __init__(self, daemon: Daemon, stream: _Stream, *, v2: bool) -> None:
        self._daemon, self._stream, self._v2 = daemon, stream, v2
        self._lock = threading.Lock()

    def run(self, command: str) -> None:
        faults = self._daemon.faults
        if faults.unplug_on and faults.unplug_on in command:
            self._daemon.unplug()
            return
        if faults.hang_on and faults.hang_on in command:
            while not self._stream.closed:
                self._stream.received.get()
            return
        process = self._daemon.start(command, merged=not self._v2)
        self._stream.on_end = lambda: _end(process)
        pipes = [(STDOUT, process.stdout), (STDERR, process.stderr)]
        threads = [threading.Thread(target=self._pump, args=pair, daemon=True) for pair in pipes if pair[1]]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        process.wait()
        if self._v2:
            self._write(EXIT, bytes([process.returncode & 255]))

    def _pump(self, kind: int, pipe: object) -> None:
        with contextlib.suppress(OSError, EOFError):
            while data := pipe.read1(32768):  # type: ignore[attr-defined]
                lost = self._daemon.faults.lose_exit_of
                if lost and lost in self._daemon.commands[-1]:
                    data = data.replace(b"sctool-exit:", b"")
                self._write(kind, data)

    def _write(self, kind: int, data: bytes) -> None:
        with self._lock:
            self._stream.write(struct.pack("<BI", kind, len(data)) + data if self._v2 else data)


class _Sync:
    def __init__(self, daemon: Daemon, stream: _Stream) -> None:
        self._daemon, self._stream = daemon, stream

    def run(self) -> None:
        while True:
            name, length = struct.unpack("<4sI", self._stream.read(8))
            if name == b"QUIT":
                return
            path = self._stream.read(length).decode()
            {b"STA2": self._stat, b"LST2": self._stat, b"STAT": self._stat_v1, b"SEND": self._receive,
             b"RECV": self._send}[name](name, path)  # fmt: skip

    def _stat(self, name: bytes, path: str) -> None:
        try:
            found = self._daemon.host_path(path).lstat()
        except OSError:
            self._stream.write(name + struct.pack("<IQQIIIIQqqq", 2, *[0] * 10))
            return
        self._stream.write(
            name + struct.pack("<IQQIIIIQqqq", 0, 1, found.st_ino, found.st_mode, 1, 0, 0, found.st_size, 0, 0, 0)
        )

    def _stat_v1(self, name: bytes, path: str) -> None:
        file = self._daemon.host_path(path)
        mode, size = (file.lstat().st_mode, file.lstat().st_size) if file.exists() else (0, 0)
        self._stream.write(name + struct.pack("<III", mode, size, 0))

    def _receive(self, name: bytes, path: str) -> None:
        path, _, mode = path.rpartition(",")
        faults, taken = self._daemon.faults, 0
        target = self._daemon.host_path(path)
        with target.open("wb") as file:
            while True:
                kind, length = struct.unpack("<4sI", self._stream.read(8))
                if kind == b"DONE":
                    break
                data = self._stream.read(length)
                taken += len(data)
                if faults.unplug_after_bytes is not None and taken > faults.unplug_after_bytes:
                    self._daemon.unplug()
                    raise EOFError
                if faults.full_after_bytes is not None and taken > faults.full_after_bytes:
                    message = b"couldn't write: No space left on device"
                    self._stream.write(b"FAIL" + struct.pack("<I", len(message)) + message)
                    target.unlink()
                    raise EOFError
                if faults.cut_after_bytes is None or taken <= faults.cut_after_bytes:
                    file.write(data)
        target.chmod(stat.S_IMODE(int(mode)) & 0o777)
        self._stream.write(b"OKAY" + struct.pack("<I", 0))

    def _send(self, name: bytes, path: str) -> None:
        try:
            content = self._daemon.host_path(path).read_bytes()
        except OSError:
            message = b"No such file or directory"
            self._stream.write(b"FAIL" + struct.pack("<I", len(message)) + message)
            return
        for i in range(0, len(content), 65536):
            piece = content[i : i + 65536]
            self._stream.write(b"DATA" + struct.pack("<I", len(piece)) + piece)
        self._stream.write(b"DONE" + struct.pack("<I", 0))


def _read_exactly(read: Callable[[int], bytes], size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = read(size - len(data))
        if not piece:
            raise EOFError
        data += piece
    return data


def _end(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


def find_system_adb() -> str | None:
    """adb in PATH or in the wheel of adbutils."""
    if found := shutil.which("adb"):
        return found
    try:
        from adbutils import adb_path
    except ImportError:
        return None
    return str(adb_path())
