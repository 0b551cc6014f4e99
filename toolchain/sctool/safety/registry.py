"""Attack name -> attack. A new attack is one file and one line here."""

from __future__ import annotations

from collections.abc import Callable

from sctool.errors import ConfigError
from sctool.resources import suggest
from sctool.safety import statistics
from sctool.safety.attack import Attack
from sctool.safety.threshold import ThresholdAttack


def _neural() -> Attack:
    from sctool.safety.neural import NeuralAttack  # the only attack that needs torch

    return NeuralAttack()


ATTACKS: dict[str, Callable[[], Attack]] = {
    "correctness": lambda: ThresholdAttack("correctness", statistics.correctness),
    "confidence": lambda: ThresholdAttack("confidence", statistics.confidence),
    "confidence_per_class": lambda: ThresholdAttack("confidence_per_class", statistics.confidence, per_class=True),
    "loss": lambda: ThresholdAttack("loss", statistics.negative_loss),
    "entropy": lambda: ThresholdAttack("entropy", statistics.negative_entropy),
    "entropy_per_class": lambda: ThresholdAttack("entropy_per_class", statistics.negative_entropy, per_class=True),
    "modified_entropy": lambda: ThresholdAttack("modified_entropy", statistics.negative_modified_entropy),
    "modified_entropy_per_class": lambda: ThresholdAttack(
        "modified_entropy_per_class", statistics.negative_modified_entropy, per_class=True
    ),
    "neural": _neural,
}


def create_attack(name: str) -> Attack:
    """The attack called `name`; ConfigError with the nearest valid name."""
    if name not in ATTACKS:
        raise ConfigError(f"Unknown attack {name!r}.", hint=suggest(name, ATTACKS))
    return ATTACKS[name]()
