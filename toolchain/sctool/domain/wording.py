"""Figures as people read them; the command line and the report say them alike."""

from __future__ import annotations

from typing import Any

Attack = dict[str, Any]

FILE_LABELS = {
    "dense_onnx_bytes": "dense model, ONNX",
    "gzip_dense_onnx_bytes": "sparse model with its zeros, gzip -9",
    "bound_onnx_bytes": "bound: entropy of the positions, and the values",
    "onnx_bytes": "shipped ONNX, sparse storage",
    "sparse_onnx_bytes": "shipped ONNX, our sparse operator",
    "pte_bytes": "shipped ExecuTorch .pte",
    "spte_bytes": "shipped sparse package .spte",
    **{
        f"{precision}_{kind}_bytes": f"shipped {name}, {precision}"
        for precision in ("float16", "int8")
        for kind, name in (("onnx", "ONNX"), ("pte", "ExecuTorch .pte"), ("spte", "sparse package .spte"))
    },
}


def say_percent(value: float) -> str:
    """A share in [0, 1] with one decimal: "95.9 %"."""
    return f"{100 * value:.1f} %"


def say_bytes(size: float) -> str:
    """Bytes as B, kB (1,000 bytes) or MB."""
    if size < 1000:
        return f"{size:.0f} B"
    return f"{size / 1e6:,.2f} MB" if size >= 1e6 else f"{size / 1000:,.1f} kB"


def say_interval(interval: dict[str, float] | None) -> str:
    """Value and 95 % interval; "withheld" where there were too few records to tell."""
    return f"{interval['value']:.3f} [{interval['low']:.3f}, {interval['high']:.3f}]" if interval else "withheld"


def own_memory_mib(profile: dict[str, Any]) -> float | None:
    """Of a profile's record: the peak over what the runtime takes without a model; None where one of them is unknown."""
    peak, baseline = profile["peak_memory_mib"], profile["baseline_memory_mib"]
    return None if peak is None or baseline is None else float(peak - baseline)


def say_known(value: float | None, digits: int) -> str:
    """With so many decimals, or "unknown"."""
    return "unknown" if value is None else f"{value:.{digits}f}"


def strongest_attack(attacks: list[Attack], *, by: str = "auc") -> Attack:
    """The attack whose figure `by` ("auc", "balanced_accuracy") is highest; the first of equals."""
    return max(attacks, key=lambda attack: float(attack[by]["value"]))
