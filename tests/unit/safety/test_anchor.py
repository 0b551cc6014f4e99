"""The published Location-30 predictions, with and without MemGuard: known figures of the per-class attacks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from sctool.domain.membership import Signals
from sctool.safety.evaluate import evaluate_attack
from sctool.safety.registry import create_attack

KNOWN = {
    ("prob", "correctness"): 0.687, ("prob", "confidence_per_class"): 0.763, ("prob", "entropy_per_class"): 0.616,
    ("prob", "modified_entropy_per_class"): 0.781, ("def", "correctness"): 0.687,
    ("def", "confidence_per_class"): 0.691, ("def", "entropy_per_class"): 0.521,
    ("def", "modified_entropy_per_class"): 0.688,
}  # fmt: skip


def _signals(probabilities: NDArray[np.floating], labels: NDArray[np.int64]) -> Signals:
    """Log-probabilities are logits whose softmax is the probabilities."""
    logits = np.log(np.maximum(probabilities.astype(np.float64), 1e-38)).astype(np.float32)
    return Signals(logits[:, None, :], labels, np.arange(len(labels)) < len(labels) // 2)


@pytest.fixture(scope="module")
def anchor(real_data: Path) -> dict[str, NDArray[np.floating]]:
    path = real_data / "location_anchor.npz"
    if not path.is_file():
        pytest.skip(f"no {path}")
    with np.load(path, allow_pickle=False) as arrays:
        return dict(arrays)


@pytest.mark.parametrize(("kind", "attack"), KNOWN)
def test_balanced_accuracy(anchor: dict[str, NDArray[np.floating]], kind: str, attack: str) -> None:
    shadow = _signals(anchor[f"s_{kind}"], anchor["s_y"].astype(np.int64))
    target = _signals(anchor[f"t_{kind}"], anchor["t_y"].astype(np.int64))
    result = evaluate_attack(create_attack(attack), shadow, target, 0)
    assert result.balanced_accuracy.value == pytest.approx(KNOWN[kind, attack], abs=5.1e-4)


@pytest.mark.parametrize(("attack", "known"), [("confidence", 0.8698), ("modified_entropy", 0.8711)])
def test_auc(anchor: dict[str, NDArray[np.floating]], attack: str, known: float) -> None:
    shadow = _signals(anchor["s_prob"], anchor["s_y"].astype(np.int64))
    target = _signals(anchor["t_prob"], anchor["t_y"].astype(np.int64))
    assert evaluate_attack(create_attack(attack), shadow, target, 0).auc.value == pytest.approx(known, abs=5.1e-5)
