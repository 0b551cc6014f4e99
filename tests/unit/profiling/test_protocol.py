"""The measuring protocol on a bench whose every figure is known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sctool.domain.device import Core, DeviceFacts
from sctool.errors import ArtifactError, ConfigError, DeviceError
from sctool.profiling.compare import compare_profiles
from sctool.profiling.protocol import Journal, Plan, measure, parse_core_list
from sctool.profiling.state import Ceilings, DeviceState, find_excess, parse_state

CORES = tuple(Core(n, 1800000 if n < 4 else 2800000) for n in range(6))
FACTS = DeviceFacts("Maker Phone", "SoC", "arm64-v8a", "Android 14", "build", CORES, 8_000_000)
COOL = DeviceState({n: 1_500_000 for n in range(6)}, 40.0, 30.0, 80, True, 0)


class Bench:
    """Calls take 2 ms; `spoil` changes a record."""

    artifact, sha256, runtime, tier, device = "m.onnx", "ab", "onnxruntime", "device", "S1"

    def __init__(
        self, states: list[DeviceState] | None = None, spoil: Callable[[dict[str, Any]], None] | None = None
    ) -> None:
        self.states, self.spoil, self.calls = states or [COOL], spoil, 0

    def facts(self) -> DeviceFacts:
        return FACTS

    def read_state(self) -> DeviceState:
        return self.states.pop(0) if len(self.states) > 1 else self.states[0]

    def measure(
        self, *, threads: int, warm_up: int, iterations: int, warm_loads: int, cores: tuple[int, ...]
    ) -> dict[str, Any]:
        self.calls += 1
        record = {
            "runtime_version": "1.0", "threads": threads, "samples_ns": [2_000_000] * iterations, "cold_load_ns": 5_000_000,
            "warm_load_ns": [3_000_000] * warm_loads, "affinity": [",".join(map(str, cores)) or "0-5"],
            "vm_hwm_kib": 40960, "baseline_vm_hwm_kib": 20480, "involuntary_switches": 0,
        }  # fmt: skip
        if self.spoil:
            self.spoil(record)
        return record


def nowhere() -> Journal:
    return Journal(None, resume=False)


def test_a_clean_measurement_is_trusted() -> None:
    found = measure(Bench(), Plan(cluster="big", threads=2), nowhere())  # type: ignore[arg-type]
    assert found.distrust == () and found.cores == ("4,5",)
    assert found.samples_ms.shape == (5, 100) and found.percentile_ms(50) == 2.0
    assert (found.cold_load_ms, found.warm_load_ms, found.peak_memory_mib) == (5.0, 3.0, 40.0)
    interval = found.percentile_interval_ms(50)
    assert interval is not None and interval.low == interval.high == 2.0
    assert any("charging" in note for note in found.notes) and any("shell's process" in note for note in found.notes)


@pytest.mark.parametrize(
    ("plan", "states", "spoil", "reason"),
    [
        (Plan(repeats=2), None, None, "2 repeats"),
        (Plan(iterations=5), None, None, "5 iterations"),
        (Plan(warm_up=0), None, None, "no warm-up"),
        (Plan(cluster="big"), None, {"affinity": ["0-5"]}, "ran on cores 0-5, asked for 4, 5"),
        (Plan(), None, {"affinity": []}, "does not tell which cores"),
        (Plan(threads=1), None, {"threads": 4}, "ran 4 threads"),
        (Plan(), None, {"involuntary_switches": 60}, "interrupted 60 times"),
        (Plan(), [replace(COOL, clocks_khz={})], None, "clocks are unknown"),
        (Plan(cool_down_s=20), [replace(COOL, battery_celsius=45.0)], None, "battery at 45 C, over 38 C after 20 s"),
        (Plan(cool_down_s=0), [replace(COOL, throttling=2)], None, "thermal status moderate"),
        (Plan(), [COOL, replace(COOL, clocks_khz={0: 900_000})], None, "the clock fell from 1500000 to 900000 kHz"),
        (Plan(), [COOL, replace(COOL, hottest_celsius=95.0), COOL], None, "ended with hottest sensor at 95 C"),
    ],
)  # fmt: skip
def test_every_broken_rule_is_a_reason(
    plan: Plan, states: list[DeviceState] | None, spoil: dict[str, Any] | None, reason: str
) -> None:
    bench = Bench(states, (lambda record: record.update(spoil)) if spoil else None)
    found = measure(bench, plan, nowhere(), wait=lambda seconds: None)  # type: ignore[arg-type]
    assert any(reason in text for text in found.distrust), found.distrust
    assert found.to_json()["trusted"] is False


def test_repeats_that_differ_are_not_trusted() -> None:
    speeds = iter([1.0, 1.0, 1.4, 1.0, 1.0, 1.0])
    bench = Bench(spoil=lambda record: record.update(samples_ns=[int(2e6 * next(speeds))] * len(record["samples_ns"])))
    assert any("differ by 1.40 x" in text for text in measure(bench, Plan(), nowhere()).distrust)  # type: ignore[arg-type]


def test_it_waits_until_the_phone_is_cool() -> None:
    warm = replace(COOL, battery_celsius=41.0)
    waits: list[float] = []
    found = measure(Bench([warm, warm, COOL]), Plan(), nowhere(), wait=waits.append)  # type: ignore[arg-type]
    assert waits == [5.0, 5.0] and found.distrust == ()
    assert any("waited 10 s" in note for note in found.notes)


@pytest.mark.parametrize(
    ("cluster", "threads", "text"), [("mid", 1, "no mid cluster"), ("big", 3, "3 threads on the 2 big")]
)
def test_a_cluster_that_is_not_there(cluster: str, threads: int, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        measure(Bench(), Plan(cluster=cluster, threads=threads), nowhere())  # type: ignore[arg-type]


def test_the_journal_keeps_whole_repeats_of_the_same_regime(tmp_path: Path) -> None:
    path = tmp_path / "profile.jsonl"
    bench = Bench()
    measure(bench, Plan(repeats=3), Journal(path, resume=False))  # type: ignore[arg-type]
    assert bench.calls == 4
    path.write_text(path.read_text() + '{"key": "torn')
    measure(bench, Plan(repeats=4), Journal(path, resume=True))  # type: ignore[arg-type]
    assert bench.calls == 5
    measure(bench, Plan(repeats=4, iterations=50), Journal(path, resume=True))  # type: ignore[arg-type]
    assert bench.calls == 10, "other iterations are another regime"
    measure(bench, Plan(repeats=3), Journal(path, resume=False))  # type: ignore[arg-type]
    assert bench.calls == 14 and path.read_text().count("\n") == 4


def test_an_error_says_what_is_kept_for_another_try(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "profile.jsonl", resume=False)
    with pytest.raises(DeviceError, match=r"^Broken.$"), journal.mentioned_in_errors():
        raise DeviceError("Broken.")
    journal.add("a", {})
    kept = r"^Broken. Mend it. .*profile.jsonl keeps 1 measurements: --resume goes on"
    with pytest.raises(DeviceError, match=kept), journal.mentioned_in_errors():
        raise DeviceError("Broken.", hint="Mend it.")
    with pytest.raises(DeviceError, match=r"^Lost. Plug it in, then --resume.$"), journal.mentioned_in_errors():
        raise DeviceError("Lost.", hint="Plug it in, then --resume.")


def test_a_damaged_journal_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "profile.jsonl"
    path.write_text('nonsense\n{"key": "a"}\n')
    with pytest.raises(ArtifactError, match="line 1, is damaged"):
        Journal(path, resume=True)


@given(st.sets(st.integers(0, 40), min_size=1))
def test_core_lists_are_read_as_the_kernel_writes_them(cores: set[int]) -> None:
    parts, ordered = [], sorted(cores)
    while ordered:
        run = [ordered.pop(0)]
        while ordered and ordered[0] == run[-1] + 1:
            run.append(ordered.pop(0))
        parts.append(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]))
    assert set(parse_core_list(",".join(parts))) == cores


@pytest.mark.parametrize("text", ["a", "1-", "-1", "1-2-3", "1,x"])
def test_a_wrong_core_list_is_refused(text: str) -> None:
    with pytest.raises(ArtifactError):
        parse_core_list(text)


STATE = """#clocks
0 1803000
4 2348000
7
#zones
battery 301
cpu-0-0 52000
skin_therm 36500
CPU4 61
soc -40000
#thermal
IsStatusOverride: false
Thermal Status: 1
#battery
Current Battery Service state:
  AC powered: false
  USB powered: true
  level: 84
  scale: 100
  temperature: 294
"""


def test_the_state_of_a_phone() -> None:
    assert parse_state(STATE) == DeviceState({0: 1803000, 4: 2348000}, 61.0, 29.4, 84, True, 1)
    assert parse_state("") == DeviceState()


@given(st.text())
def test_no_state_crashes_the_reader(text: str) -> None:
    parse_state(STATE[: len(text)] + text)


def test_unknown_is_not_over_a_ceiling() -> None:
    assert find_excess(DeviceState(), Ceilings()) == []
    assert len(find_excess(DeviceState({}, 99.0, 50.0, 5, None, 4), Ceilings())) == 4


def profile_of(**changes: Any) -> dict[str, Any]:
    found = measure(Bench(), Plan(), nowhere()).to_json()  # type: ignore[arg-type]
    return {"profiles": [{**found, **changes}], "costs": []}


def test_comparable_profiles_give_a_ratio_and_whether_it_is_beyond_noise() -> None:
    slower = {"latency_ms": {"p50": 3.0}, "latency_over_repeats_ms": {"p50": {"value": 3.0, "low": 2.9, "high": 3.1}}}
    (row,) = compare_profiles(profile_of(), profile_of(**slower))
    assert row["ratio"] == 1.5 and row["sure"]
    (same,) = compare_profiles(profile_of(), profile_of())
    assert same["ratio"] == 1.0 and not same["sure"]
    (doubtful,) = compare_profiles(profile_of(), profile_of(**slower, trusted=False, distrust=["hot"]))
    assert not doubtful["sure"] and doubtful["distrust"] == ["hot"]


@pytest.mark.parametrize(
    "changes",
    [{"threads": 2}, {"cluster": "big"}, {"measured_on": "host"}, {"machine": "other"}, {"iterations": 7},
     {"warm_up": 1}, {"runtime": "onnxruntime 2"}],
)  # fmt: skip
def test_different_regimes_are_not_compared(changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="not comparable") as caught:
        compare_profiles(profile_of(), profile_of(**changes))
    assert next(iter(changes)) in str(caught.value)


def test_nothing_in_common() -> None:
    with pytest.raises(ConfigError, match="no artifact"):
        compare_profiles(profile_of(), profile_of(artifact="other.onnx"))


def test_samples_are_kept_apart_by_repeat() -> None:
    assert np.asarray(profile_of()["profiles"][0]["samples_ms"]).shape == (5, 100)
