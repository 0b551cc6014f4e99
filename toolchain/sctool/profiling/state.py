"""Clocks, temperatures and battery of a device at one moment: read by one shell script, judged against ceilings."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from sctool.domain.device import DeviceSession

SCRIPT = """
echo '#clocks'
for cpu in /sys/devices/system/cpu/cpu[0-9]*; do
  if [ -d "$cpu" ]; then echo "${cpu##*/cpu} $(cat $cpu/cpufreq/scaling_cur_freq 2>/dev/null)"; fi
done
echo '#zones'
for zone in /sys/class/thermal/thermal_zone*; do
  if [ -d "$zone" ]; then echo "$(cat $zone/type 2>/dev/null) $(cat $zone/temp 2>/dev/null)"; fi
done
echo '#thermal'; dumpsys thermalservice 2>/dev/null | head -n 40
echo '#battery'; dumpsys battery 2>/dev/null
"""
TIMEOUT_S = 30.0
THROTTLING = {0: "none", 1: "light", 2: "moderate", 3: "severe", 4: "critical", 5: "emergency", 6: "shutdown"}
"""Android's thermal status."""
_HOT_ZONES = re.compile(r"cpu|soc|skin|tsens|x86_pkg|package|quiet", re.IGNORECASE)


@dataclass(frozen=True)
class DeviceState:
    """None, or a core that is missing, is "unknown". Temperatures in degrees Celsius; `charging` by USB counts."""

    clocks_khz: dict[int, int] = field(default_factory=dict)
    hottest_celsius: float | None = None
    battery_celsius: float | None = None
    battery_percent: int | None = None
    charging: bool | None = None
    throttling: int | None = None

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "clocks_khz": {str(core): clock for core, clock in sorted(self.clocks_khz.items())}}


@dataclass(frozen=True)
class Ceilings:
    """What a repeat may start with: absolute, not "as cool as before"."""

    battery_celsius: float = 38.0
    hottest_celsius: float = 70.0
    battery_percent: int = 20
    throttling: int = 0


def read_state(session: DeviceSession) -> DeviceState:
    """The state of `session`'s device. DeviceError where it does not answer."""
    return parse_state(session.run(["sh", "-c", SCRIPT], timeout_s=TIMEOUT_S).stdout)


def parse_state(text: str) -> DeviceState:
    """What SCRIPT printed; whatever is missing or unreadable is None."""
    parts = {}
    for block in re.split(r"^#", text, flags=re.MULTILINE)[1:]:
        name, _, body = block.partition("\n")
        parts[name.strip()] = body
    clocks = dict(re.findall(r"^(\d+) ([1-9]\d*)$", parts.get("clocks", ""), re.MULTILINE))
    battery = dict(re.findall(r"^\s*([\w ]+?)\s*:\s*(\S+)\s*$", parts.get("battery", ""), re.MULTILINE))
    status = re.search(r"Thermal Status:\s*(\d)", parts.get("thermal", ""))
    powered = [value for key, value in battery.items() if key.endswith("powered")]
    return DeviceState(
        clocks_khz={int(core): int(clock) for core, clock in clocks.items()},
        hottest_celsius=_hottest(parts.get("zones", "")),
        battery_celsius=int(battery["temperature"]) / 10 if battery.get("temperature", "").isdecimal() else None,
        battery_percent=int(battery["level"]) if battery.get("level", "").isdecimal() else None,
        charging=("true" in powered) if powered else None,
        throttling=int(status[1]) if status else None,
    )


def find_excess(state: DeviceState, ceilings: Ceilings) -> list[str]:
    """What of `state` is over a ceiling; unknown is not over."""
    found = []
    for name, value, limit in (
        ("battery", state.battery_celsius, ceilings.battery_celsius),
        ("hottest sensor", state.hottest_celsius, ceilings.hottest_celsius),
    ):
        if value is not None and value > limit:
            found.append(f"{name} at {value:g} C, over {limit:g} C")
    if state.battery_percent is not None and state.battery_percent < ceilings.battery_percent:
        found.append(f"battery at {state.battery_percent} %, under {ceilings.battery_percent} %")
    if state.throttling is not None and state.throttling > ceilings.throttling:
        found.append(f"thermal status {THROTTLING.get(state.throttling, state.throttling)}")
    return found


def _hottest(zones: str) -> float | None:
    """The hottest of the sensors near the processor; kernels say millidegrees or degrees."""
    values = []
    for line in zones.splitlines():
        name, _, value = line.rpartition(" ")
        if _HOT_ZONES.search(name) and re.fullmatch(r"-?\d+", value):
            celsius = int(value) / 1000 if abs(int(value)) > 200 else float(value)
            if 0 < celsius < 130:
                values.append(celsius)
    return max(values, default=None)
