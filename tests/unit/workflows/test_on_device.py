"""A device that answers otherwise than this machine is found out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from sctool.domain.config import Config
from sctool.errors import ArtifactError, ExportError
from sctool.workflows import on_device
from sctool.workflows.on_device import OnDevice, add_device, describe_agreement
from sctool.workflows.subject import Column, Subject

HERE, THERE = "model.onnx (ONNX Runtime)", "model.onnx (on phone)"


class Answers:
    name = "answers"

    def __init__(self, shift: float) -> None:
        self.shift = shift

    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        logits = np.tile(np.arange(3, dtype=np.float32), (len(batch), 1))
        logits[:, 0] += self.shift
        return logits


def make(shift: float, name: str = "model.onnx") -> tuple[OnDevice, list[dict[str, Any]], Subject]:
    here, there = HERE.replace("model.onnx", name), THERE.replace("model.onnx", name)
    columns = [Column(here, "artifact", Answers(0.0)), Column(there, "artifact", Answers(shift))]
    data: Any = SimpleNamespace(x=np.zeros((5, 2), np.float32))
    subject = Subject(columns, data, SimpleNamespace(), Config(), None, {name: ""}, {name: Path(name)}, Path("v"))  # type: ignore[arg-type]
    records = [
        {"name": each, "attacks": [{"attack": "loss", "auc": {"value": value}}]}
        for each, value in ((here, 0.50), (there, 0.52))
    ]
    facts = SimpleNamespace(to_json=lambda: {"model": "phone"})
    session: Any = SimpleNamespace(tier="device", facts=lambda: facts)
    return OnDevice(session, {there: here}), records, subject


def test_agreement_is_told_in_logits_and_in_what_the_attacks_find() -> None:
    on, records, subject = make(5e-5)
    found = describe_agreement(on, records, subject, np.arange(4))
    agreement = found["agreement"][THERE]
    assert agreement["compared_with"] == HERE and agreement["records"] == 4
    assert agreement["max_abs_error"] == pytest.approx(5e-5, rel=1e-3)
    assert agreement["max_auc_difference"] == pytest.approx(0.02)
    assert (found["tier"], found["facts"]) == ("device", {"model": "phone"})


@pytest.mark.parametrize("shift", [1e-3, float("nan"), float("inf")])
def test_other_answers_are_an_error_not_a_footnote(shift: float) -> None:
    on, records, subject = make(shift)
    with pytest.raises(ExportError, match="does not answer as it does here"):
        describe_agreement(on, records, subject, np.arange(4))


def test_lower_precisions_are_reported_and_left_to_their_own_gates() -> None:
    on, records, subject = make(1e-3, "model.int8.onnx")
    (agreement,) = describe_agreement(on, records, subject, np.arange(4))["agreement"].values()
    assert agreement["max_abs_error"] == pytest.approx(1e-3, rel=1e-3)


def test_without_a_device_the_subject_is_as_it_was() -> None:
    _, _, subject = make(0.0)
    with add_device(subject, None) as (same, on):
        assert same is subject and on is None


def test_a_subject_that_nothing_takes_to_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    _, _, subject = make(0.0, "model.spte")

    @contextmanager
    def nowhere(name: str) -> Iterator[Any]:
        yield SimpleNamespace(name=name)

    monkeypatch.setattr(on_device, "on_device", nowhere)
    with pytest.raises(ArtifactError, match="Nothing of this runs on phone"), add_device(subject, "phone"):
        raise AssertionError("never reached")
