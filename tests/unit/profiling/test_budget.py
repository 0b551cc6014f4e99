"""Only a measurement at the right place decides."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sctool.domain.measurement import LatencyProfile, MeasuredOn
from sctool.domain.target import Budget, Target
from sctool.profiling.budget import check_budget, not_gated, note_packages


def target(kind: Any = "device", **budget: float) -> Target:
    return Target(name="t", kind=kind, platform="any", abi="native", runtime=("onnxruntime",), budget=Budget(**budget))


def profile(measured_on: MeasuredOn, latency_ms: float, peak_mib: float = 10.0) -> LatencyProfile:
    samples = np.full((2, 5), latency_ms)
    return LatencyProfile("m.onnx", "fake", measured_on, "bench", 1, 1, 0, samples, 1.0, 1.0, peak_mib, 5.0)


@pytest.mark.parametrize("kind", ["device", "class", "host"])
@pytest.mark.parametrize("measured_on", ["device", "emulator", "host"])
def test_which_measurement_gates_which_target(kind: str, measured_on: MeasuredOn) -> None:
    limits = target(kind, latency_p95_ms=1.0, peak_memory_mib=1.0)
    profiles = [profile(measured_on, 99.0)]
    decides = measured_on == ("host" if kind == "host" else "device")
    assert len(check_budget(profiles, {}, limits)) == (2 if decides else 0)
    assert len(not_gated(profiles, limits)) == (0 if decides else 2)


def test_no_limit_no_violation_and_no_note() -> None:
    assert check_budget([profile("device", 1e9)], {"m.onnx": 2**40}, target()) == []
    assert not_gated([], target()) == []


def test_no_profile_at_all_is_said() -> None:
    assert "found nowhere" in not_gated([], target(latency_p95_ms=1.0))[0]


def test_a_figure_that_is_no_number_violates() -> None:
    assert check_budget([profile("device", float("nan"))], {}, target(latency_p95_ms=1.0))


@given(
    latency=st.floats(0.01, 100),
    limit=st.floats(0.01, 100),
    size_mib=st.floats(0.1, 20),
    sizes=st.dictionaries(st.sampled_from(["model.onnx", "model.pte", "model.spte"]), st.integers(0, 2**25)),
)
def test_violations_are_exactly_the_figures_over_their_limit(
    latency: float, limit: float, size_mib: float, sizes: dict[str, int]
) -> None:
    measured = profile("device", latency)
    found = check_budget([measured], sizes, target(latency_p95_ms=limit, size_mib=size_mib))
    limits = target(size_mib=size_mib)
    over = [name for name, size in sizes.items() if size / 2**20 > size_mib]
    spared = "model.pte" in over and "model.spte" in sizes and "model.spte" not in over
    too_large = [name for name in over if not (spared and name == "model.pte")]
    assert [note.split(":")[0] for note in note_packages(sizes, limits)] == ["model.pte"] * spared
    assert len(found) == (measured.percentile_ms(95) > limit) + len(too_large)
    assert all(any(f"({name})" in told for told in found) for name in too_large)
