"""From attack figures to a verdict: which are over a gate, and beyond what chance explains."""

from __future__ import annotations

from dataclasses import dataclass

from sctool.domain.config import VerifyConfig
from sctool.domain.measurement import AttackResult, Interval

FALSE_ALARMS = 0.05
"""How often, at most, a model that never saw the members fails, over all figures judged (Bonferroni)."""


@dataclass(frozen=True)
class Gates:
    """Limits given by the caller; None: the run's config decides, else the defaults of VerifyConfig."""

    max_attack_accuracy: float | None = None
    max_auc: float | None = None
    max_tpr_at_1pct_fpr: float | None = None

    def over(self, config: VerifyConfig) -> VerifyConfig:
        return config.model_copy(update={key: value for key, value in vars(self).items() if value is not None})


@dataclass(frozen=True)
class _Figure:
    """`chance`: what the figure is on average without a leak; `p`: how often it would then be at least as large."""

    where: str
    value: Interval
    limit: float
    chance: float
    p: float


def judge(results: list[tuple[str, AttackResult]], limits: VerifyConfig) -> tuple[list[str], list[str]]:
    """(failures, what is over its limit but may be chance) of (column, result), the furthest from chance first.

    A figure fails where it is over its limit and would be that large in fewer than FALSE_ALARMS of models without a leak,
    shared among all figures: with more attacks no innocent model fails more often. A limit at chance or under it says that
    chance is too much already: it fails whatever is over it.
    """
    figures = [figure for name, result in results for figure in _read_figures(name, result, limits)]
    level = FALSE_ALARMS / max(len(figures), 1)
    over = sorted((figure for figure in figures if figure.value.value > figure.limit), key=lambda figure: figure.p)
    failures = [figure for figure in over if figure.p < level or figure.limit <= figure.chance]
    doubtful = [figure for figure in over if figure not in failures]
    return (
        [f"{figure.where} is {figure.value}, over the limit of {figure.limit:g}." for figure in failures],
        [
            f"{figure.where} is {figure.value}, over the limit of {figure.limit:g}, but chance would give as much in "
            f"{figure.p:.2g} of audits: not judged a leak. More audit records would tell."
            for figure in doubtful
        ],
    )


def _read_figures(name: str, result: AttackResult, limits: VerifyConfig) -> list[_Figure]:
    """All that could be told."""
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
