"""SafeCompress (Zhu, Wang, Han, ASE 2022): propose sparse candidates, test them for task and safety, keep the best.

Ours, where the paper's text could not be obtained: one attacker fitted for each candidate, TM-score as in
domain.candidate.tm_score, a fixed number of rounds, then training at fixed topology.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from sctool.atomic import check_writable, refuse_existing
from sctool.domain.config import Config
from sctool.domain.selection import create_ranking
from sctool.safety.registry import create_attack
from sctool.workflows.checkpoint import CheckpointWriter, checkpoint_path, read_checkpoint, refuse_unfinished
from sctool.workflows.experiment import prepare_experiment
from sctool.workflows.progress import Progress, ignore_progress
from sctool.workflows.proposals import parse_proposals
from sctool.workflows.result import write_result
from sctool.workflows.run_directory import SUMMARY
from sctool.workflows.search import run_search
from sctool.workflows.search_state import start_search
from sctool.workflows.signals import create_attacks
from sctool.workflows.training import read_rule_options


def compress(
    config: Config, output: Path, *, overwrite: bool = False, resume: bool = False,
    progress: Progress = ignore_progress,
) -> dict[str, Any]:  # fmt: skip
    """Run SafeCompress as `config` says, write the run directory `output`, and return its summary.

    Deterministic: the same config on the same machine and versions gives the same bytes of weights, also where the run
    was stopped on the way and taken up again with `resume`, which begins anew where there is nothing to take up.
    """
    _check(config)
    refuse_existing(output, overwrite=overwrite, marker=SUMMARY)
    check_writable(output)
    unfinished = checkpoint_path(output)
    if not resume:
        refuse_unfinished(output, overwrite=overwrite)
    torch.set_num_threads(1)
    experiment = prepare_experiment(config)
    state = read_checkpoint(unfinished, experiment) if unfinished.exists() else start_search(experiment)
    writer = CheckpointWriter(unfinished, experiment, config.compress.checkpoint_minutes)
    state = run_search(experiment, state, progress, writer)
    summary = write_result(experiment, state, output, overwrite=overwrite)
    unfinished.unlink(missing_ok=True)
    return summary


def _check(config: Config) -> None:
    """ConfigError for any name that does not exist, before data are read or steps are made."""
    parse_proposals(config.compress)
    read_rule_options(config.compress.rule, config.compress.rule_options)
    create_ranking(config.safety.selection, config.safety.constraints, config.safety.tm_tolerance)
    create_attacks(config.safety.selection_attacks, where="safety.selection_attacks")
    for name in config.safety.audit_attacks:
        create_attack(name)
