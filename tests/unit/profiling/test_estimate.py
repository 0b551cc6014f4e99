"""Counted work against sums by hand, fits that find what made the data, and estimates that say what they are worth."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from sctool.domain.measurement import LatencyProfile
from sctool.domain.target import Target, load_target, read_target
from sctool.domain.work import Work
from sctool.errors import ArtifactError, ConfigError, DeviceError
from sctool.export.onnx import export_onnx, serialise_onnx
from sctool.export.sparsify import sparsify_onnx
from sctool.profiling.budget import ALLOWED, check_estimates, not_gated
from sctool.profiling.calibration import to_target
from sctool.profiling.estimate import (
    BAND,
    PRIOR,
    REACH,
    SMALL_FACTOR,
    SMALL_REACH,
    Costs,
    Estimate,
    estimate,
    find_scale,
    fit_costs,
    largest_factor,
    mean_error,
    read_anchor_models,
    read_costs,
)
from sctool.profiling.work import count_work
from sctool.resources import list_resources

ROOT = Path(__file__).resolve().parents[3]
ARM, MODELS = read_costs("arm"), read_anchor_models()


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.wide = nn.Conv2d(3, 8, 3, padding=1)
        self.depth = nn.Conv2d(8, 8, 3, stride=2, padding=1, groups=8)
        self.point = nn.Conv2d(8, 16, 1)
        self.last = nn.Linear(16 * 8 * 8, 100)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(torch.relu(self.point(self.depth(torch.relu(self.wide(x))))).flatten(1))


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("work")
    torch.manual_seed(0)
    model = Net().eval()
    with torch.no_grad():
        model.last.weight.mul_(torch.rand_like(model.last.weight) < 0.1)
    dense = export_onnx(model, torch.rand(2, 3, 16, 16), max_batch=64)
    files = {"dense": folder / "dense.onnx", "sparse": folder / "sparse.onnx"}
    files["dense"].write_bytes(serialise_onnx(dense))
    files["sparse"].write_bytes(serialise_onnx(sparsify_onnx(dense, "gap8").proto))
    return files


def test_work_is_what_a_sum_by_hand_gives(exported: dict[str, Path]) -> None:
    found = count_work(exported["dense"])
    assert found.conv == pytest.approx(8 * 16 * 16 * 3 * 9 / 1e6)
    assert found.depthwise == pytest.approx(8 * 8 * 8 * 9 / 1e6)
    assert found.pointwise == pytest.approx(16 * 8 * 8 * 8 / 1e6)
    assert found.dense == pytest.approx(16 * 64 * 100 / 1e6)
    parameters = sum(parameter.numel() for parameter in Net().parameters())
    assert found.weights == pytest.approx(parameters * 4 / 1e6)


def test_sparse_storage_does_not_change_the_work(exported: dict[str, Path]) -> None:
    """ONNX Runtime unfolds the weights when it loads the file, and so does the count."""
    assert count_work(exported["sparse"]) == count_work(exported["dense"])


def test_what_is_no_model_has_no_work(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(b"nonsense")
    with pytest.raises(ArtifactError, match="Cannot count the work"):
        count_work(path)


@pytest.mark.parametrize(("name", "mmacs"), [("mobilenet-v2", 301), ("resnet-50", 4089), ("vgg-16", 15470)])
def test_anchor_models_have_the_multiply_adds_that_the_field_knows(name: str, mmacs: float) -> None:
    assert MODELS[name].mmacs == pytest.approx(mmacs, rel=0.01)


@given(st.lists(st.floats(-1.5, 1.5), min_size=len(PRIOR), max_size=len(PRIOR)), st.floats(0.1, 10))
def test_a_fit_predicts_what_it_was_made_from(logs: list[float], scale: float) -> None:
    """Twelve architectures, exact figures of two devices: predictions within a few percent, whatever the costs."""
    truth = Costs("t", tuple(float(value) for value in np.asarray(PRIOR) * np.exp(logs)))
    works = [*MODELS.values(), *MODELS.values()]
    figures = [truth.relative(work) / 1000 * (1.0 if i < len(MODELS) else scale) for i, work in enumerate(works)]
    fitted = fit_costs(works, figures, [int(i >= len(MODELS)) for i in range(len(works))], "t")
    own = find_scale(fitted, works[: len(MODELS)], figures[: len(MODELS)])
    predicted = [own * fitted.relative(work) for work in MODELS.values()]
    assert mean_error(predicted, figures[: len(MODELS)]) < 0.1


def test_the_committed_costs_rank_the_published_figures() -> None:
    target = load_target("pixel-2-xl")
    figures = {anchor.model: anchor.latency_ms for anchor in target.anchors}
    scale = find_scale(ARM, [MODELS[name] for name in figures], list(figures.values()))
    assert mean_error([scale * ARM.relative(MODELS[name]) for name in figures], list(figures.values())) < 0.25


def test_weights_that_do_not_fit_the_cache_cost_more() -> None:
    flat, steep = Work(weights=10.0), Work(weights=30.0)
    costs = Costs("t", (*(0.0,) * 4, 1.0, 0.0, 0.0, 5.0), cache_mb=16.0)
    assert costs.relative(flat) == 10.0 and costs.relative(steep) == 30.0 + 5.0 * 14.0
    assert Costs("t", costs.amounts).relative(steep) == 30.0, "an unknown cache changes nothing"


def test_errors_are_what_they_are_called() -> None:
    assert mean_error([1.1, 0.8], [1.0, 1.0]) == pytest.approx(0.15)
    assert largest_factor([2.0, 0.25], [1.0, 1.0]) == pytest.approx(4.0)


def test_no_anchor_no_milliseconds() -> None:
    found = estimate(MODELS["resnet-18"], load_target("pixel-8"), ARM, MODELS)
    assert (found.latency_ms, found.low_ms, found.high_ms, found.tag) == (None, None, None, "extrapolated")
    assert found.relative_cost == ARM.relative(MODELS["resnet-18"])


def test_within_reach_it_is_estimated_with_its_band() -> None:
    found = estimate(MODELS["resnet-18"], load_target("redmi-note-7"), ARM, MODELS)
    assert found.tag == "estimated" and found.calibrated_by == 12
    assert found.low_ms == pytest.approx(found.latency_ms / 2) and found.high_ms == pytest.approx(found.latency_ms * 2)
    assert found.low_ms < 236.9 < found.high_ms


def test_far_from_every_anchor_it_is_extrapolated_with_the_band_that_is_known_or_says_why_there_is_none() -> None:
    def grown(factor: float) -> Estimate:
        work = Work(**{kind: value * factor for kind, value in MODELS["squeezenet"].model_dump().items()})
        return estimate(work, load_target("redmi-note-7"), ARM, MODELS)

    near, small, tiny, huge = grown(0.5), grown(1 / 50), grown(1 / 500), grown(200)
    assert [found.tag for found in (near, small, tiny, huge)] == ["estimated", *["extrapolated"] * 3]
    assert small.latency_ms is not None and small.low_ms == pytest.approx(small.latency_ms / SMALL_FACTOR)
    assert small.high_ms == pytest.approx(small.latency_ms * BAND) and "too high" in small.notes[-1]
    for found, why in ((tiny, "nothing so small"), (huge, "nothing so large")):
        assert (found.low_ms, found.high_ms) == (None, None) and why in found.notes[-1]


def test_the_band_of_small_models_holds_what_the_benchmark_found() -> None:
    with (ROOT / "benchmarks/results/estimate_reach.csv").open() as file:
        small = [row for row in csv.DictReader(file) if float(row["times_smaller"]) > REACH]
    assert len(small) >= 10 and max(float(row["times_smaller"]) for row in small) <= SMALL_REACH
    assert all(1 / BAND < float(row["factor"]) < SMALL_FACTOR for row in small)


def test_of_another_precision_it_is_extrapolated_without_a_band() -> None:
    other = estimate(MODELS["resnet-18"], load_target("redmi-note-7"), ARM, MODELS, "int8")
    assert other.tag == "extrapolated" and any("fp32, the model int8" in note for note in other.notes)


@given(st.floats(0.1, 10))
def test_estimates_scale_with_the_devices_figures(factor: float) -> None:
    target = load_target("redmi-2")
    faster = target.model_copy(
        update={"anchors": tuple(a.model_copy(update={"latency_ms": a.latency_ms * factor}) for a in target.anchors)}
    )
    one, other = (estimate(MODELS["mnasnet"], each, ARM, MODELS) for each in (target, faster))
    assert other.latency_ms == pytest.approx(one.latency_ms * factor)


def test_estimates_decide_only_when_allowed_and_never_when_extrapolated() -> None:
    target = load_target("redmi-2").model_copy(
        update={"budget": load_target("host").budget.model_copy(update={"latency_p95_ms": 10.0})}
    )
    found = estimate(MODELS["resnet-18"], target, ARM, MODELS).to_json() | {"artifact": "m.onnx"}
    assert "over the 10 ms" in check_estimates([found], target)[0]
    assert check_estimates([found | {"tag": "extrapolated"}], target) == []
    assert "was not checked" in not_gated([], target)[0] and not_gated([], target, found=[ALLOWED]) == []
    assert "found an estimate and emulator" in not_gated([], target, found=["emulator", "an estimate"])[0]


def test_unknown_family() -> None:
    with pytest.raises(ConfigError, match="Known: arm"):
        read_costs("riscv")


def test_targets_cover_what_was_promised() -> None:
    targets = [load_target(name) for name in list_resources("targets")]
    phones = [target for target in targets if target.kind == "device"]
    assert sum(target.platform == "android" for target in phones) >= 10
    assert sum(target.platform == "ios" for target in phones) >= 2
    assert all(target.facts_source for target in phones if target.clusters)
    assert all(anchor.model in MODELS for target in targets for anchor in target.anchors)


def measured(**changes: Any) -> LatencyProfile:
    settings: dict[str, Any] = {
        "artifact": "model.onnx", "runtime": "onnxruntime 1", "measured_on": "device", "machine": 'Maker "Phone"',
        "threads": 1, "batch_size": 1, "warm_up": 2, "samples_ms": np.full((3, 30), 4.0), "cold_load_ms": 1.0,
        "warm_load_ms": 1.0, "peak_memory_mib": 2.0, "baseline_memory_mib": 1.0, "cluster": "big",
        "device": {"abi": "arm64-v8a", "soc": "SoC", "build": "b/1",
                   "cores": [{"number": 0, "max_khz": 1800000}, {"number": 1, "max_khz": 2800000}]},
    }  # fmt: skip
    return LatencyProfile(**{**settings, **changes})


def test_a_calibration_is_a_target_that_predicts_itself(tmp_path: Path) -> None:
    path = tmp_path / "my-phone.toml"
    work = MODELS["mnasnet"]
    path.write_text(to_target("my-phone", [measured()], {"model.onnx": work}))
    target: Target = read_target(path)
    assert [cluster.clock_ghz for cluster in target.clusters] == [2.8, 1.8]
    found = estimate(work, target, ARM, {})
    assert (
        found.tag == "estimated" and found.latency_ms is not None and math.isclose(found.latency_ms, 4.0, rel_tol=1e-4)
    )


@pytest.mark.parametrize(
    ("name", "changes", "error", "text"),
    [
        ("p", {"distrust": ("hot",)}, DeviceError, "not measured well enough"),
        ("p", {"measured_on": "host"}, DeviceError, "Only what was measured on a device"),
        ("My Phone", {}, ConfigError, "No target can be called"),
    ],
)
def test_what_may_not_calibrate(name: str, changes: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        to_target(name, [measured(**changes)], {"model.onnx": MODELS["mnasnet"]})
