"""A target file from what was measured on a device: anchors of the user's own, by which estimates are scaled."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, Sequence

from pydantic import ValidationError

from sctool.domain.measurement import LatencyProfile
from sctool.domain.target import Target
from sctool.domain.work import KINDS, Work
from sctool.errors import ConfigError, DeviceError


def to_target(name: str, profiles: Sequence[LatencyProfile], works: Mapping[str, Work]) -> str:
    """TOML of a target called `name` whose anchors are `profiles`, with the `works` of their artifacts.

    Raises DeviceError where a profile is not trusted or was not taken on a device, ConfigError for a name that no target
    may have.
    """
    if not profiles or any(profile.measured_on != "device" for profile in profiles):
        raise DeviceError("Only what was measured on a device calibrates.", hint="Add --device SERIAL.")
    for profile in profiles:
        if profile.distrust:
            raise DeviceError(
                f"{profile.artifact} was not measured well enough to calibrate by: {profile.distrust[0]}.",
                hint="Mend that, then measure again.",
            )
    facts = profiles[0].device
    lines = [
        f"name = {_quote(name)}", 'kind = "device"', 'platform = "android"', f"abi = {_quote(facts['abi'] or 'arm64-v8a')}",
        'runtime = ["onnxruntime"]', f"description = {_quote(profiles[0].machine)}",
    ]  # fmt: skip
    if facts["soc"]:
        lines += [f"soc = {_quote(facts['soc'])}", 'facts_source = "what the device says of itself"']
    lines += _clusters(facts["cores"])
    for profile in profiles:
        work = works[profile.artifact]
        counted = ", ".join(f"{kind} = {getattr(work, kind):.6g}" for kind in KINDS)
        source = f"measured by sctool on {facts['build'] or profiles[0].machine}, cluster {profile.cluster}"
        lines += [
            "", "[[anchors]]", f"model = {_quote(profile.artifact)}", f"runtime = {_quote(profile.runtime)}",
            'precision = "fp32"', f"threads = {profile.threads}", f"latency_ms = {profile.percentile_ms(50):.6g}",
            f"source = {_quote(source)}", f"work = {{ {counted} }}",
        ]  # fmt: skip
    text = "\n".join(lines) + "\n"
    try:
        Target.model_validate(tomllib.loads(text))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise ConfigError(
            f"No target can be called {name!r}: {first['msg']}.", hint="Name the file my-phone.toml, in lower case."
        ) from error
    return text


def _clusters(cores: Sequence[Mapping[str, int | None]]) -> list[str]:
    clocks = sorted({core["max_khz"] for core in cores if core["max_khz"]}, reverse=True)
    lines = []
    for number, clock in enumerate(clocks):
        count = sum(core["max_khz"] == clock for core in cores)
        lines += ["", "[[clusters]]", f'name = "cluster{number}"', f"cores = {count}", f"clock_ghz = {clock / 1e6:.4g}"]
    return lines


def _quote(text: str) -> str:
    """A TOML basic string: JSON's escapes are among TOML's."""
    return json.dumps(text, ensure_ascii=True)
