"""The task test and the safety tests that every candidate of a round goes through."""

from __future__ import annotations

from torch import nn

from sctool.domain.candidate import Candidate, tm_error, tm_score
from sctool.domain.measurement import AttackResult
from sctool.domain.selection import combine_tests
from sctool.runtimes.eager import EagerSession
from sctool.safety.attack import FittedAttack, fit_from
from sctool.safety.evaluate import summarise_scores
from sctool.safety.registry import create_attack
from sctool.sparsity.cost import count_positions
from sctool.sparsity.trainer import TrainingState, answer_sparsely
from sctool.workflows.experiment import Experiment
from sctool.workflows.proposals import Proposal
from sctool.workflows.signals import collect_signals


class Tester:
    """Tests states; unless safety.attacker = "candidate", attackers are fitted on the parent of the round once."""

    def __init__(self, experiment: Experiment) -> None:
        self._experiment = experiment
        self._shared: tuple[int, list[FittedAttack]] | None = None
        self._positions: dict[str, int] | None = None

    def test(
        self, state: TrainingState, proposal: Proposal, *, round_index: int, number: int, parent: str, seconds: float,
        attacked: TrainingState | None = None,
    ) -> Candidate:  # fmt: skip
        """The figures of `state`; `attacked` is the parent that shared attackers are fitted on."""
        experiment = self._experiment
        safety = experiment.config.safety
        with answer_sparsely(state) as model:
            task = experiment.task_accuracy(model)
            results = self._attack(state, model, attacked, round_index)
        accuracy = combine_tests([r.balanced_accuracy.value for r in results], safety.selection_weights)
        auc = combine_tests([r.auc.value for r in results], safety.selection_weights)
        nnz = {name: int(mask.sum()) for name, mask in state.masks.items()}
        if self._positions is None:
            self._positions = count_positions(state.model, experiment.data.x.shape[1:])
        return Candidate(
            round=round_index, candidate=number, drop=proposal.drop, grow=proposal.grow, loss=str(proposal.loss),
            seed=experiment.config.compress.seed, parent=parent, task_accuracy=task, attack_accuracy=accuracy,
            attack_auc=auc, tm_score=tm_score(task, accuracy, safety.tm_exponent),
            density=sum(nnz.values()) / sum(mask.numel() for mask in state.masks.values()), nnz=sum(nnz.values()),
            macs=sum(count * self._positions.get(name, 1) for name, count in nnz.items()), steps=state.step,
            seconds=seconds,
            tm_error=tm_error(
                task, accuracy, len(experiment.split["validation"]), len(experiment.split.pair("attack_select")[0]),
                safety.tm_exponent,
            ),
            safety={r.attack: {"accuracy": r.balanced_accuracy.value, "auc": r.auc.value} for r in results},
        )  # fmt: skip

    def _attack(
        self, state: TrainingState, model: nn.Module, attacked: TrainingState | None, round_index: int
    ) -> list[AttackResult]:
        """Scored on `attack_select`; fitted on `attack_fit`, of `model` or of the round's parent."""
        experiment = self._experiment
        mode = experiment.config.safety.attacker
        if mode == "candidate" or attacked is None:
            return experiment.attack(model)
        if self._shared is None or self._shared[0] != round_index:
            with answer_sparsely(attacked) as parent:
                self._shared = (round_index, self._fit(parent))
        fitted = self._shared[1] if mode == "round" else self._fit(model, self._shared[1])
        held_out = collect_signals(EagerSession(model), experiment.data, experiment.split, "attack_select")
        names = experiment.config.safety.selection_attacks
        return [
            summarise_scores(name, attack.score(held_out), held_out.is_member, attack.threshold)
            for name, attack in zip(names, fitted, strict=True)
        ]

    def _fit(self, model: nn.Module, start: list[FittedAttack] | None = None) -> list[FittedAttack]:
        """One for each of safety.selection_attacks; `start`: those that they may go on from."""
        experiment = self._experiment
        signals = collect_signals(EagerSession(model), experiment.data, experiment.split, "attack_fit")
        seed = experiment.config.compress.seed
        attacks = [create_attack(name) for name in experiment.config.safety.selection_attacks]
        if start is None:
            return [attack.fit(signals, seed) for attack in attacks]
        return [fit_from(attack, known, signals, seed) for attack, known in zip(attacks, start, strict=True)]
