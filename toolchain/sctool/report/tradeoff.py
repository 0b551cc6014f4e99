"""The figure of a study: task accuracy against attack accuracy of every method, a panel a data set and density."""

from __future__ import annotations

import io
from typing import Any

import matplotlib

matplotlib.use("svg")
from matplotlib.axes import Axes
from matplotlib.figure import Figure

_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "h", "<", ">", "p", "*")
_COLOURS = ("#444444", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c564b", "#17becf")
_SETTINGS: dict[Any, Any] = {
    "font.family": "sans-serif", "font.size": 9, "axes.spines.top": False, "axes.spines.right": False,
    "legend.frameon": False, "svg.hashsalt": "tradeoff", "grid.color": "#dddddd",
}  # fmt: skip


def draw_tradeoff(summary: list[dict[str, Any]]) -> str:
    """SVG of the rows of `workflows.tradeoff.summarise`: colour is the method, marker the defence.

    Dense models stand in every panel of their data set. Bars are the 95 % intervals over seeds.
    """
    studies = list(dict.fromkeys(row["study"] for row in summary))
    densities = sorted({row["density"] for row in summary if row["method"] != "dense"}) or [1.0]
    methods = list(dict.fromkeys(row["method"] for row in summary))
    defences = list(dict.fromkeys(row["defence"] for row in summary))
    with matplotlib.rc_context(_SETTINGS):
        figure = Figure(figsize=(3.6 * len(densities) + 1.8, 3.2 * len(studies) + 0.8), layout="constrained")
        grid = figure.subplots(len(studies), len(densities), squeeze=False)
        for axes_row, study in zip(grid, studies, strict=True):
            for axes, density in zip(axes_row, densities, strict=True):
                here = [
                    r for r in summary if r["study"] == study and (r["density"] == density or r["method"] == "dense")
                ]
                _draw_panel(axes, here, methods, defences)
                axes.set_title(f"{study}, density {density:g}", loc="left", fontsize=9.5, fontweight="bold")
        _draw_legend(figure, grid[0][0], methods, defences)
        stream = io.StringIO()
        figure.savefig(stream, format="svg", metadata={"Date": None})
        return stream.getvalue()


def _draw_panel(axes: Axes, rows: list[dict[str, Any]], methods: list[str], defences: list[str]) -> None:
    for row in rows:
        errors = [_reach(row, name) for name in ("attack_accuracy", "test_accuracy")]
        axes.errorbar(
            100 * row["attack_accuracy"], 100 * row["test_accuracy"], xerr=errors[0], yerr=errors[1],
            fmt=_MARKERS[defences.index(row["defence"]) % len(_MARKERS)],
            color=_COLOURS[methods.index(row["method"]) % len(_COLOURS)],
            markersize=9 if row["method"] == "safecompress" else 6, elinewidth=0.8, alpha=0.9,
        )  # fmt: skip
    axes.axvline(50, color="#999999", linewidth=0.8, linestyle=":")
    axes.set_xlabel("attack accuracy, % (left is safer)")
    axes.set_ylabel("test accuracy, %")
    axes.grid(True)


def _reach(row: dict[str, Any], figure: str) -> float | None:
    low = row[f"{figure}_low"]
    return None if low is None else 100 * (row[figure] - low)


def _draw_legend(figure: Figure, axes: Axes, methods: list[str], defences: list[str]) -> None:
    for number, method in enumerate(methods):
        axes.plot([], [], "o", color=_COLOURS[number % len(_COLOURS)], label=method.replace("_", " "))
    for number, defence in enumerate(defences):
        label = "no defence" if defence == "none" else f"+ {defence.replace('_', ' ')}"
        axes.plot([], [], _MARKERS[number % len(_MARKERS)], color="#777777", linestyle="none", label=label)
    figure.legend(loc="outside right upper", fontsize=8)
