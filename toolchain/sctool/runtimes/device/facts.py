"""What a device says of itself: one shell script for all of it, and the reading of what comes back."""

from __future__ import annotations

import re

from sctool.domain.device import Core, DeviceFacts

SCRIPT = """
echo '#properties'; getprop 2>/dev/null
echo '#cpuinfo'; cat /proc/cpuinfo 2>/dev/null
echo '#memory'; cat /proc/meminfo 2>/dev/null
echo '#clocks'
for cpu in /sys/devices/system/cpu/cpu[0-9]*; do
  if [ -d "$cpu" ]; then echo "${cpu##*/cpu} $(cat $cpu/cpufreq/cpuinfo_max_freq 2>/dev/null)"; fi
done
echo '#kernel'; uname -srm
"""
_PROPERTY = re.compile(r"^\[([^\]]+)\]: \[(.*?)\]?$")
_UNSET = {"", "unknown", "0"}


def parse_properties(text: str) -> dict[str, str]:
    """What `getprop` prints; a value that runs over several lines keeps its first."""
    return {found[1]: found[2] for line in text.splitlines() if (found := _PROPERTY.match(line.strip()))}


def parse_facts(text: str) -> DeviceFacts:
    """The facts in what SCRIPT printed; whatever is missing or unreadable is None."""
    parts = _split(text)
    properties = parse_properties(parts.get("properties", ""))

    def read(*names: str) -> str | None:
        return next((properties[name] for name in names if properties.get(name, "") not in _UNSET), None)

    release, level = read("ro.build.version.release"), read("ro.build.version.sdk")
    kernel = parts.get("kernel", "").strip()
    system = f"Android {release} (API {level})" if release else kernel or None
    maker, product = read("ro.product.manufacturer"), read("ro.product.model")
    return DeviceFacts(
        model=" ".join(filter(None, (maker, product))) or None,
        soc=_soc(read("ro.soc.manufacturer"), read("ro.soc.model", "ro.board.platform", "ro.hardware"))
        or _cpuinfo(parts.get("cpuinfo", "")),
        abi=read("ro.product.cpu.abi") or (kernel.split()[-1] if kernel else None),
        system=system,
        build=read("ro.build.fingerprint", "ro.build.id"),
        cores=_cores(parts.get("clocks", "")),
        memory_kib=_memory(parts.get("memory", "")),
    )


def _split(text: str) -> dict[str, str]:
    parts: dict[str, str] = {}
    name = ""
    for line in text.splitlines():
        if line.startswith("#") and line[1:].isalpha():
            name = line[1:]
            parts[name] = ""
        elif name:
            parts[name] += line + "\n"
    return parts


def _soc(maker: str | None, model: str | None) -> str | None:
    return " ".join(filter(None, (maker, model))) or None


def _cpuinfo(text: str) -> str | None:
    found = re.search(r"^(?:Hardware|model name)\s*:\s*(\S.*)$", text, re.MULTILINE)
    return found[1].strip() if found else None


def _cores(text: str) -> tuple[Core, ...]:
    found = [line.split() for line in text.splitlines()]
    cores = [
        Core(int(words[0]), int(words[1]) if len(words) > 1 and words[1].isdecimal() and int(words[1]) > 0 else None)
        for words in found
        if words and words[0].isdecimal()
    ]
    return tuple(sorted(cores, key=lambda core: core.number))


def _memory(text: str) -> int | None:
    found = re.search(r"^MemTotal:\s*(\d+) kB", text, re.MULTILINE)
    return int(found[1]) if found else None
