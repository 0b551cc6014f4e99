"""What a finding does to a command that has shown it: its exit code, and what of the record is printed."""

from __future__ import annotations

from typing import Any

from sctool.errors import BudgetExceeded, VerificationFailed


def without_curves(verification: dict[str, Any]) -> dict[str, Any]:
    """ROC curves stay in verification.json; the printed JSON would drown in them."""
    bare = {**verification, "blind_baseline": {**verification["blind_baseline"], "roc": None}}
    bare["columns"] = [
        {**column, "attacks": [{**attack, "roc": None} for attack in column["attacks"]]}
        for column in verification["columns"]
    ]
    return bare


def fail_on_leak(verification: dict[str, Any]) -> None:
    """VerificationFailed where the verdict is no pass; the finding itself is on the screen already."""
    if verification["verdict"] != "pass":
        raise VerificationFailed(
            f"The model leaks: {verification['failures'][0]}",
            hint="Lower compress.density, train for fewer steps, or add label smoothing; then export again.",
            reported=True,
        )


def fail_over_budget(profile: dict[str, Any]) -> None:
    """BudgetExceeded where a measured figure is over the target's budget."""
    if profile["violations"]:
        raise BudgetExceeded(profile["violations"][0], hint="Compress further or raise the budget.", reported=True)
