"""What the machine that measures is, in words."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path

_CPUINFO = Path("/proc/cpuinfo")
_DEVICE_TREE = Path("/proc/device-tree/model")


def cpu_model(cpuinfo: Path = _CPUINFO, device_tree: Path = _DEVICE_TREE) -> str:
    """The CPU's name; on Arm, which has none in cpuinfo, the board's, else implementer and part, else "unknown"."""
    text = _read(cpuinfo)
    for key in ("model name", "Hardware"):
        if found := re.search(rf"^{key}\s*:\s*(\S.*)$", text, re.MULTILINE):
            return " ".join(found[1].split())
    if board := _read(device_tree).strip("\0 \n"):
        return board
    implementer = re.search(r"^CPU implementer\s*:\s*(\S+)", text, re.MULTILINE)
    part = re.search(r"^CPU part\s*:\s*(\S+)", text, re.MULTILINE)
    if implementer and part:
        return f"CPU implementer {implementer[1]} part {part[1]}"
    return platform.processor() or "unknown"


def usable_cores() -> int:
    """Cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def describe_machine() -> str:
    """One line: CPU, cores that this process may use, operating system, architecture."""
    cores = usable_cores()
    return f"{cpu_model()}, {cores} core{'s' if cores != 1 else ''}, {platform.system()} {platform.machine()}"


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
