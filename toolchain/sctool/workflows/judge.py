"""From attack figures to a verdict: which are over a gate, and beyond what chance explains."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sctool.domain.config import VerifyConfig
from sctool.domain.measurement import AttackResult, Interval
from sctool.safety.exposure import split_by_class

FALSE_ALARMS = 0.05
"""How often, at most, a model that never saw the members fails, over all figures judged (Bonferroni): half of it over
the figures of all records, half over those of single classes, which are many."""


@dataclass(frozen=True)
class Gates:
    """Limits given by the caller; None: the run's config decides, else the defaults of VerifyConfig."""

    max_attack_accuracy: float | None = None
    max_auc: float | None = None
    max_tpr_at_1pct_fpr: float | None = None
    max_class_auc: float | None = None

    def over(self, config: VerifyConfig) -> VerifyConfig:
        return config.model_copy(update={key: value for key, value in vars(self).items() if value is not None})


@dataclass(frozen=True)
class Judged:
    """What `attack` found in `column`; `labels` int64 [N] of the records that it scored."""

    column: str
    result: AttackResult
    labels: NDArray[np.int64]


@dataclass(frozen=True)
class _Figure:
    """`chance`: what the figure is on average without a leak; `p`: how often it would then be at least as large."""

    where: str
    value: Interval
    limit: float
    chance: float
    p: float


def judge(results: list[Judged], limits: VerifyConfig) -> tuple[list[str], list[str]]:
    """(failures, what is over its limit but may be chance), the furthest from chance first.

    A figure fails where it is over its limit and would be that large in fewer than FALSE_ALARMS of models without a leak,
    shared among all figures: with more attacks no innocent model fails more often. A limit at chance or under it says that
    chance is too much already: it fails whatever is over it.
    """
    families = [
        [figure for judged in results for figure in _read_figures(judged, limits)],
        [figure for judged in results for figure in _read_classes(judged, limits)],
    ]
    failures: list[_Figure] = []
    doubtful: list[_Figure] = []
    for figures in families:
        level = FALSE_ALARMS / sum(map(bool, families)) / max(len(figures), 1)
        for figure in figures:
            if figure.value.value > figure.limit:
                sure = figure.p < level or figure.limit <= figure.chance
                (failures if sure else doubtful).append(figure)
    for found in (failures, doubtful):
        found.sort(key=lambda figure: figure.p)
    return (
        [f"{figure.where} is {figure.value}, over the limit of {figure.limit:g}." for figure in failures],
        [
            f"{figure.where} is {figure.value}, over the limit of {figure.limit:g}, but chance would give as much in "
            f"{figure.p:.2g} of audits: not judged a leak. More audit records would tell."
            for figure in doubtful
        ],
    )


def _read_figures(judged: Judged, limits: VerifyConfig) -> list[_Figure]:
    """Of all records: all that could be told."""
    name, result = judged.column, judged.result
    found = [
        ("attack accuracy", "balanced_accuracy", result.balanced_accuracy, limits.max_attack_accuracy, 0.5),
        ("AUC", "auc", result.auc, limits.max_auc, 0.5),
        ("TPR at 1 % FPR", "tpr_at_1pct_fpr", result.tpr_at_fpr.get(0.01), limits.max_tpr_at_1pct_fpr, 0.01),
    ]
    return [
        _Figure(f"{name}: {what} of {result.attack}", value, limit, chance, p)
        for what, key, value, limit, chance in found
        if value is not None and (p := result.p_values[key]) is not None
    ]


def _read_classes(judged: Judged, limits: VerifyConfig) -> list[_Figure]:
    """Of each class with records enough."""
    name = f"{judged.column}: AUC of {judged.result.attack}"
    return [
        _Figure(f"{name} within class {figure.label}", figure.auc, limits.max_class_auc, 0.5, figure.p)
        for figure in split_by_class(judged.result, judged.labels)
        if figure.auc is not None and figure.p is not None
    ]
