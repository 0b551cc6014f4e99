"""The report's two figures as inline SVG. Colours are CSS variables, so that the page's light and dark themes rule."""

from __future__ import annotations

import io
import math
import re
import textwrap
from collections import defaultdict
from typing import Any

import matplotlib

matplotlib.use("svg")  # no display, no other backend is loaded
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sctool.domain.wording import strongest_attack

# Stand-ins for CSS variables: matplotlib writes them out, `_render` replaces them.
_VARIABLES = {
    "#010203": "var(--ink)", "#010204": "var(--muted)", "#010205": "var(--line)", "#010206": "var(--dense)",
    "#010207": "var(--sparse)", "#010208": "var(--onnx)", "#010209": "var(--pte)", "#01020a": "var(--panel)",
}  # fmt: skip
INK, MUTED, LINE, DENSE, SPARSE, ONNX, PTE, PANEL = _VARIABLES
BLIND = "blind (sees no model)"
GRADED = 10
"""An attack with more points on its ROC than this has a curve worth drawing."""
SHORT_LABEL, LONG_LABEL = 28, 56
"""Characters of a legend's label up to which two stand side by side, and beyond which it takes two lines."""
Style = tuple[str, Any, float]
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "h", "<", ">")
_STYLES: dict[str, Style] = {"dense": (DENSE, "-", 2.0), "sparse": (SPARSE, "-", 3.2)}
_DASHES = ((0, (5, 2)), (0, (1.5, 1.5)), (0, (7, 1.5, 1.5, 1.5)), (0, (3, 3)))
_SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none", "font.family": "sans-serif", "font.size": 9.5, "axes.edgecolor": MUTED, "text.color": INK,
    "axes.labelcolor": INK, "xtick.color": MUTED, "ytick.color": MUTED, "axes.spines.top": False,
    "axes.spines.right": False, "grid.color": LINE, "grid.linewidth": 0.8, "legend.frameon": False,
}  # fmt: skip


def draw_candidates(
    candidates: list[dict[str, Any]], dense: dict[str, Any] | None, ended_with: str | None = None
) -> str:
    """Task accuracy against attack accuracy of every candidate; the chosen ones joined in the order of rounds.

    `ended_with`: the name of the candidate that is the run's result, where one is.
    """
    with matplotlib.rc_context({**_SETTINGS, "svg.hashsalt": "candidates"}):
        pairs = list(dict.fromkeys(c["label"] for c in candidates))
        labels = {pair: _write_label(pair.replace("/", " / ")) for pair in pairs}
        columns, height = _size_legend(
            [*labels.values(), *["dense model"] * bool(dense), *["the run's result"] * bool(ended_with)]
        )
        figure = Figure(figsize=(4.8, 3.2 + height), layout="constrained")
        axes = figure.subplots()
        rounds = max(c["round"] for c in candidates) + 1
        for candidate in candidates:
            axes.plot(
                100 * candidate["attack_accuracy"], 100 * candidate["task_accuracy"], linestyle="none",
                marker=_MARKERS[pairs.index(candidate["label"]) % len(_MARKERS)],
                color=SPARSE, markeredgecolor=PANEL, markersize=7, alpha=0.25 + 0.75 * (candidate["round"] + 1) / rounds,
            )  # fmt: skip
        _draw_path(axes, [c for c in candidates if c["selected"]])
        if dense:
            attack = dense["attacks"][0]["balanced_accuracy"]["value"]
            axes.plot(
                100 * attack, 100 * dense["validation_accuracy"], "*", color=DENSE, markersize=12, label="dense model"
            )
        for result in [c for c in candidates if c["name"] == ended_with]:
            axes.plot(
                100 * result["attack_accuracy"], 100 * result["task_accuracy"], "o", markersize=16, zorder=5,
                markerfacecolor="none", markeredgecolor=SPARSE, markeredgewidth=2.4,
            )  # fmt: skip
            axes.plot(
                [], [], "o", markersize=8, markerfacecolor="none", markeredgecolor=SPARSE, markeredgewidth=2.0,
                label="the run's result",
            )  # fmt: skip
        for number, pair in enumerate(pairs):
            marker = _MARKERS[number % len(_MARKERS)]
            axes.plot([], [], marker, color=SPARSE, markersize=6, linestyle="none", label=labels[pair])
        axes.set_xlabel("attack accuracy, % (left is safer)")
        axes.set_ylabel("task accuracy, % (up is better)")
        axes.margins(0.1)
        axes.grid(True)
        figure.legend(loc="outside lower center", ncols=columns, fontsize=8.5, handletextpad=0.3, columnspacing=1.2)
        return _render(figure, "candidates", "Task accuracy against attack accuracy of every candidate")


def _write_label(label: str) -> str:
    """As the legend shows it, broken where it would leave the figure."""
    return "\n".join(textwrap.wrap(label.replace("+", " +"), LONG_LABEL)) if len(label) > LONG_LABEL else label


def _size_legend(labels: list[str]) -> tuple[int, float]:
    """(columns that fit side by side, inches that the legend takes below the figure)."""
    columns = 2 if max(map(len, labels)) <= SHORT_LABEL else 1
    lines = sum(label.count("\n") + 1 for label in labels)
    return columns, 0.17 * math.ceil(lines / columns)


def _draw_path(axes: Axes, chosen: list[dict[str, Any]]) -> None:
    x, y = [100 * c["attack_accuracy"] for c in chosen], [100 * c["task_accuracy"] for c in chosen]
    axes.plot(x, y, color=INK, linewidth=1.2, zorder=3)
    axes.plot(x, y, "o", markersize=12, markerfacecolor="none", markeredgecolor=INK, markeredgewidth=1.2, zorder=4)
    rounds_at: dict[tuple[float, float], list[str]] = defaultdict(list)
    for candidate, point in zip(chosen, zip(x, y, strict=True), strict=True):
        rounds_at[point].append(str(candidate["round"] + 1))
    for point, rounds in rounds_at.items():
        axes.annotate(",".join(rounds), point, xytext=(7, 5), textcoords="offset points", fontsize=8.5, color=INK)


def draw_roc(verification: dict[str, Any]) -> tuple[str, str]:
    """(SVG, attack): true against false positive rate on log-log axes, of the attack that is strongest on what ships.

    Attacks of a few distinct scores, as "correctness", have no curve to show; they are drawn only where all are so.
    A rate of 0 has no place on a log axis; the axes begin at one record.
    """
    columns, blind = verification["columns"], verification["blind_baseline"]
    shipped = [column for column in columns if column["kind"] == "artifact"]
    attacks = [attack for column in shipped for attack in column["attacks"]]
    graded = [attack for attack in attacks if len(attack["roc"]["fpr"]) > GRADED] or attacks
    name = strongest_attack(graded)["attack"]
    with matplotlib.rc_context({**_SETTINGS, "svg.hashsalt": "roc"}):
        labels = {column["name"]: _write_label(column["name"]) for column in columns}
        ncols, height = _size_legend(["chance", BLIND, *labels.values()])
        figure = Figure(figsize=(4.8, 3.2 + height), layout="constrained")
        axes = figure.subplots()
        floor = 1 / max(blind["members"], blind["non_members"], 10)
        axes.plot([floor, 1], [floor, 1], color=MUTED, linewidth=1, label="chance")
        _draw_curve(axes, blind["roc"], MUTED, (0, (2, 2)), 1.2, BLIND)
        artifacts = 0
        for column in columns:
            if column["kind"] == "artifact":
                colour, style, width = _style_artifact(column["name"], artifacts)
                artifacts += 1
            else:
                colour, style, width = _STYLES[column["kind"]]
            attack = next((attack for attack in column["attacks"] if attack["attack"] == name), None)
            if attack is None:
                continue
            _draw_curve(axes, attack["roc"], colour, style, width, labels[column["name"]])
        axes.set(xscale="log", yscale="log", xlim=(floor, 1.05), ylim=(floor, 1.1))
        axes.set_xlabel("false positive rate (log)")
        axes.set_ylabel("true positive rate (log)")
        axes.grid(True)
        figure.legend(loc="outside lower center", ncols=ncols, fontsize=8.5, columnspacing=1.2)
        return _render(figure, "roc", f"ROC of the {name} attack on log-log axes"), name


def _style_artifact(name: str, number: int) -> Style:
    """A colour for what runs it, a dash for which of the files it is; `number` counts them from 0."""
    return ONNX if ".onnx" in name else PTE, _DASHES[number % len(_DASHES)], 1.7


def _draw_curve(axes: Axes, roc: dict[str, list[float]], colour: str, style: Any, width: float, label: str) -> None:
    axes.plot(
        roc["fpr"], roc["tpr"], drawstyle="steps-post", color=colour, linestyle=style, linewidth=width, label=label
    )


def _render(figure: Figure, prefix: str, description: str) -> str:
    """The <svg> element alone, with ids of its own and CSS variables for colours."""
    stream = io.StringIO()
    figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = stream.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\bid="', f'id="{prefix}-', svg)
    svg = re.sub(r'(url\(#|href="#)', rf"\g<1>{prefix}-", svg)
    svg = re.sub(r'<svg [^>]*?viewBox="([^"]+)"[^>]*>',
                 rf'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
                 rf'viewBox="\1" role="img" aria-label="{description}">', svg, count=1)  # fmt: skip
    for stand_in, variable in _VARIABLES.items():
        svg = svg.replace(stand_in, variable)
    return svg
