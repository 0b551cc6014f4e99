"""Does an artifact keep to its target's budget?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sctool.domain.measurement import LatencyProfile
from sctool.domain.target import Target

ALLOWED = "an estimate that may decide"


def gates(profile: LatencyProfile, target: Target) -> bool:
    """Whether `profile` may decide on the target's latency and memory.

    A device's or a class's limits are decided on a device only; a host's on a host. An emulator decides nothing.
    """
    return profile.measured_on == ("host" if target.kind == "host" else "device")


def check_budget(profiles: Sequence[LatencyProfile], sizes: Mapping[str, int], target: Target) -> list[str]:
    """The violations, one sentence each; empty where all is within the target's budget. `sizes`: file -> bytes.

    Size is always checked, of each file by itself: an application ships the one that its runtime loads, and of a .pte and
    its sparse package either, see `note_packages`. Latency and memory are checked where `gates` holds: figures of a host
    or an emulator say nothing about a phone's milliseconds, see `not_gated`.
    """
    budget = target.budget
    found: list[str] = []
    spared = _spared(sizes, target)
    for name, size_bytes in sizes.items():
        if _is_over(size_bytes, target) and name not in spared:
            found.append(f"Size {_say_over(size_bytes, target)} ({name}).")
    for profile in profiles:
        if not gates(profile, target):
            continue
        latency = profile.percentile_ms(95)
        where = f"of {target.name} ({profile.artifact} on {profile.machine})"
        peak = profile.peak_memory_mib
        # not <=: a figure that is no number is a violation too
        if budget.latency_p95_ms is not None and not latency <= budget.latency_p95_ms:
            found.append(f"Latency p95 {latency:.3f} ms is over the {budget.latency_p95_ms:g} ms {where}.")
        if budget.peak_memory_mib is not None and not peak <= budget.peak_memory_mib:
            found.append(f"Peak memory {peak:.1f} MiB is over the {budget.peak_memory_mib:g} MiB {where}.")
    return found


def note_packages(sizes: Mapping[str, int], target: Target) -> list[str]:
    """A note for each .pte that is over the target's size while its sparse package, the same model for the same runtime,
    is not: that one ships."""
    return [
        f"{name}: {_say_over(sizes[name], target)}; {package} is not, and takes its place."
        for name, package in _spared(sizes, target).items()
    ]


def _spared(sizes: Mapping[str, int], target: Target) -> dict[str, str]:
    """.pte -> the .spte that fits where it does not."""
    pairs = {name: f"{name.removesuffix('.pte')}.spte" for name in sizes if name.endswith(".pte")}
    return {
        name: package
        for name, package in pairs.items()
        if package in sizes and _is_over(sizes[name], target) and not _is_over(sizes[package], target)
    }


def _is_over(size_bytes: int, target: Target) -> bool:
    return target.budget.size_mib is not None and size_bytes / 2**20 > target.budget.size_mib


def _say_over(size_bytes: int, target: Target) -> str:
    return f"{size_bytes / 2**20:.3f} MiB is over the {target.budget.size_mib:g} MiB of {target.name}"


def check_estimates(estimates: Sequence[dict[str, Any]], target: Target) -> list[str]:
    """The violations by estimated latency, for a caller who allows that estimates decide; extrapolations decide nothing."""
    limit = target.budget.latency_p95_ms
    if limit is None:
        return []
    return [
        f"Latency of {found['artifact']} on {target.name} is estimated at {found['latency_ms']:.3f} ms "
        f"({found['low_ms']:.3f} to {found['high_ms']:.3f}), over the {limit:g} ms."
        for found in estimates
        if found["tag"] == "estimated" and found["latency_ms"] is not None and found["latency_ms"] > limit
    ]


def not_gated(profiles: Sequence[LatencyProfile], target: Target, *, found: Sequence[str] = ()) -> list[str]:
    """A note for each limit that no profile could decide. `found`: where other figures come from, that decide nothing,
    and ALLOWED where an estimated latency has decided."""
    if any(gates(profile, target) for profile in profiles):
        return []
    needed = "host" if target.kind == "host" else "device"
    places = sorted({profile.measured_on for profile in profiles} | {place for place in found if place != ALLOWED})
    measured = " and ".join(places) or "nowhere"
    return [
        f"{limit} of {target.name} was not checked: it needs a measurement on a {needed}, found {measured}."
        for limit, value in (
            ("latency_p95_ms", None if ALLOWED in found else target.budget.latency_p95_ms),
            ("peak_memory_mib", target.budget.peak_memory_mib),
        )
        if value is not None
    ]
