"""Attack name -> attack. A new attack is one file and one line here."""

from __future__ import annotations

from collections.abc import Callable

from sctool.errors import ConfigError
from sctool.resources import suggest
from sctool.safety import statistics
from sctool.safety.attack import Attack
from sctool.safety.base import calibrate_base
from sctool.safety.bavaria import calibrate_bavaria
from sctool.safety.lira import calibrate_offline, calibrate_online
from sctool.safety.quantile import QuantileAttack
from sctool.safety.reference import ReferenceAttack
from sctool.safety.rmia import calibrate_rmia
from sctool.safety.threshold import ThresholdAttack

OUTPUTS = "Sees the model's outputs and the labels; "
SHADOWS_OUT = OUTPUTS + "trained models on other records like these, with the same recipe and masks."
SHADOWS_IN = OUTPUTS + "trained models with and without each record, with the same recipe and masks."


def _neural() -> Attack:  # attackers that are networks need torch: imported when asked for
    from sctool.safety.neural import NeuralAttack

    return NeuralAttack()


def _samia() -> Attack:
    from sctool.safety.samia import SamiaAttack

    return SamiaAttack()


def _white_box() -> Attack:
    from sctool.safety.white_box import WhiteBoxAttack

    return WhiteBoxAttack()


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
    "label_only": lambda: ThresholdAttack(
        "label_only",
        statistics.correctness,
        all_queries=True,
        needs=frozenset({"queries"}),
        threat_model="Sees only which class the model names, for each record and altered copies of it; knows the "
        "membership of some other records.",
    ),
    "quantile": QuantileAttack,
    "neural": _neural,
    "samia": _samia,
    "lira_online": lambda: ReferenceAttack("lira_online", calibrate_online, SHADOWS_IN),
    "lira_offline": lambda: ReferenceAttack("lira_offline", calibrate_offline, SHADOWS_OUT),
    "bavaria": lambda: ReferenceAttack("bavaria", calibrate_bavaria, SHADOWS_IN),
    "rmia": lambda: ReferenceAttack("rmia", calibrate_rmia, SHADOWS_OUT, frozenset({"shadows", "population"})),
    "base": lambda: ReferenceAttack("base", calibrate_base, SHADOWS_OUT),
    "white_box": _white_box,
}


def create_attack(name: str) -> Attack:
    """The attack called `name`; ConfigError with the nearest valid name."""
    if name not in ATTACKS:
        raise ConfigError(f"Unknown attack {name!r}.", hint=suggest(name, ATTACKS))
    return ATTACKS[name]()
