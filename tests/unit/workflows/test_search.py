"""The search: what competes, what is selected, what it ends with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.conftest import SHORT

from sctool.domain.config import Config, validate_config
from sctool.errors import ConfigError, OutputError
from sctool.safety import neural
from sctool.sparsity.losses import LossSpec
from sctool.workflows.compress import compress
from sctool.workflows.experiment import prepare_experiment
from sctool.workflows.pick import pick, read_front
from sctool.workflows.proposals import KEEP, Proposal, parse_proposals, proposals_of_round
from sctool.workflows.run_directory import read_run, read_tensors
from sctool.workflows.search import run_search
from sctool.workflows.search_state import SearchState, start_search
from sctool.workflows.start import plan_counts
from sctool.workflows.teachers import deal_out


def make_config(safety: dict[str, Any] | None = None, **more: object) -> Config:
    return validate_config({"compress": {**SHORT, **more}, "safety": safety or {}}, where="test")


def search(config: Config, *, skip_dense: bool = True) -> SearchState:
    experiment = prepare_experiment(config)
    return run_search(experiment, start_search(experiment), lambda *_: None, lambda *_: None, skip_dense=skip_dense)


def nnz(state: SearchState) -> dict[str, int]:
    parameters = dict(state.result.model.named_parameters())
    return {name: int((parameters[name] != 0).sum()) for name in state.result.masks}


def test_proposals_in_all_their_forms() -> None:
    config = make_config(candidates=["set/random", "set/random/relax:0.7", "keep", "keep/uniform"]).compress
    texts = [str(proposal) for proposal in parse_proposals(config)]
    assert texts == ["set/random", "set/random/relax:0.7", "keep", "keep/uniform"]


@pytest.mark.parametrize(
    ("candidate", "words"),
    [
        ("magnitud/random", "unknown drop 'magnitud'.*Did you mean 'magnitude'"),
        ("magnitude/gradent", "unknown grow 'gradent'.*Did you mean 'gradient'"),
        ("magnitude", "unknown grow ''"),
        ("keep/relx", "unknown loss 'relx'.*Did you mean 'relax'"),
        ("set/random/relax/relax", "too many parts"),
        ("set/random/relax:-1", "no strength"),
        ("set/random/soft", "1 <= teachers_without < teachers"),
    ],
)
def test_wrong_candidates_are_named(candidate: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        parse_proposals(make_config(candidates=[candidate]).compress)


def test_after_the_last_update_only_the_losses_compete() -> None:
    plain, relax = LossSpec("cross_entropy", 0.0), LossSpec("relax", 0.5)
    proposals = [
        Proposal("set", "random", plain),
        Proposal("magnitude", "random", plain),
        Proposal("set", "random", relax),
    ]
    assert proposals_of_round(proposals, 1, 2) == proposals
    assert proposals_of_round(proposals, 2, 2) == [Proposal(KEEP, "", plain), Proposal(KEEP, "", relax)]
    assert proposals_of_round(proposals, 9, 0) == proposals


def test_keep_leaves_the_masks_as_they_were() -> None:
    config = make_config(candidates=["keep"])
    experiment = prepare_experiment(config)
    before = start_search(experiment).trunk.masks
    state = search(config)
    assert all(torch.equal(before[name], mask) for name, mask in state.trunk.masks.items())


@pytest.mark.parametrize("start", ["random", "dense"])
@pytest.mark.parametrize("schedule", ["constant", "gradual"])
def test_every_start_and_schedule_ends_at_the_planned_counts(start: str, schedule: str) -> None:
    config = make_config(start=start, density_schedule=schedule, candidates=["magnitude/gradient", "keep"])
    state = search(config, skip_dense=False)
    experiment = prepare_experiment(config)
    planned = plan_counts(experiment, experiment.build())
    assert {name: int(mask.sum()) for name, mask in state.result.masks.items()} == planned
    assert all(count <= planned[name] for name, count in nnz(state).items())


def test_a_dense_start_keeps_the_largest_weights() -> None:
    config = make_config(start="dense", rounds=0, warm_up_steps=0, final_steps=0)
    state = search(config, skip_dense=False)
    dense, sparse = dict(state.dense.model.named_parameters()), dict(state.trunk.model.named_parameters())
    for name, mask in state.trunk.masks.items():
        assert torch.equal(sparse[name][mask], dense[name][mask])
        left, gone = dense[name][mask].abs(), dense[name][~mask].abs()
        assert len(gone) == 0 or left.min() >= gone.max()


@pytest.mark.parametrize("layer", ["first", "last"])
def test_first_and_last_layer_can_stay_dense(layer: str) -> None:
    state = search(make_config(**{f"{layer}_layer": "dense"}, rounds=0, warm_up_steps=0, final_steps=0))
    (left,) = state.left_dense
    assert left["reason"] == f"compress.{layer}_layer is dense"
    assert left["layer"] not in state.trunk.masks


def test_early_stopping_ends_with_the_best_of_all_tests() -> None:
    state = search(make_config({"tm_tolerance": 0.0}, early_stopping=True, final_steps=90))
    tested = [record["tm_score"] for record in state.records if record["selected"] or record["round"] == 2]
    assert state.best is not None and state.best.candidate.tm_score == max(tested)
    assert len([record for record in state.records if record["round"] == 2]) == 3
    assert state.result is state.best.state


def test_within_the_error_early_stopping_ends_with_the_most_accurate() -> None:
    state = search(make_config({"tm_tolerance": 100.0}, early_stopping=True, final_steps=90))
    assert state.best is not None
    assert state.best.candidate.task_accuracy == max(each.task_accuracy for each in state.trunks)


def test_a_candidate_trains_with_its_own_regularisers() -> None:
    texts = ["keep/cross_entropy", "keep/cross_entropy+weight_decay:0.5", "keep/cross_entropy+erase:0.9"]
    state = start_search(experiment := prepare_experiment(make_config(candidates=texts, rounds=1, final_steps=0)))
    weights: dict[str, float] = {}

    def look(state: SearchState, due: bool) -> None:
        for branch in state.branches:
            weights[str(branch.proposal)] = float(next(iter(branch.state.model.parameters())).detach().abs().sum())

    run_search(experiment, state, lambda *_: None, look, skip_dense=True)
    plain, decayed, erased = (
        weights[text.replace("/cross_entropy", "", 1) if "+" not in text else text] for text in texts
    )
    assert decayed < 0.9 * plain and erased != plain


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"rule": "adversarial", "loss": "cross_entropy+cutmix"}, "does not go with the regularisers"),
        ({"loss": "cross_entropy+flip"}, r"flip needs images; the records have shape \[64\]"),
        ({"teachers": 3, "teachers_without": 1, "loss": "soft", "teacher_loss": "soft"}, "teachers have no teachers"),
    ],
)
def test_what_does_not_go_together_is_told_before_training(more: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        search(make_config(**more))


def test_constraints_select_what_holds_them() -> None:
    state = search(
        make_config({"selection": "constraints", "constraints": "attack_accuracy <= 0.2 and accuracy >= 0.1"})
    )
    for index in range(2):
        records = [record for record in state.records if record["round"] == index]
        chosen = next(record for record in records if record["selected"])
        assert chosen["attack_accuracy"] == min(record["attack_accuracy"] for record in records)


def test_a_shared_attacker_is_one_for_the_round() -> None:
    """Both readings of the papers' figure: the same candidates, but the threshold is the parent's."""
    own = search(make_config({"attacker": "candidate"}, rounds=1))
    shared = search(make_config({"attacker": "round"}, rounds=1))
    pairs = [(a, b) for a, b in zip(own.records, shared.records, strict=True)]
    assert all(a["attack_auc"] == b["attack_auc"] for a, b in pairs)  # the AUC has no threshold
    assert any(a["attack_accuracy"] != b["attack_accuracy"] for a, b in pairs)


def test_a_warm_attacker_starts_from_the_parents_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    epochs: list[int] = []
    train = neural._train

    def count(network: Any, signals: Any, number: int, generator: Any) -> Any:
        epochs.append(number)
        return train(network, signals, number, generator)

    monkeypatch.setattr(neural, "_train", count)
    attacks = {"selection_attacks": ["neural", "confidence"], "attacker": "warm"}
    state = search(make_config(attacks, rounds=2))
    assert epochs == 2 * [50, 10, 10]  # The parent once a round, then two candidates.
    own = search(make_config({**attacks, "attacker": "candidate"}, rounds=2))
    for a, b in zip(own.records[:2], state.records[:2], strict=True):
        assert a["safety"]["confidence"] == b["safety"]["confidence"]  # A threshold has nothing to start from.


def test_several_safety_tests_count_by_the_worst() -> None:
    state = search(make_config({"selection_attacks": ["modified_entropy", "correctness"]}, rounds=1))
    for record in state.records:
        assert set(record["safety"]) == {"modified_entropy", "correctness"}
        assert record["attack_accuracy"] == max(test["accuracy"] for test in record["safety"].values())


def test_every_record_is_left_out_by_as_many_teachers_as_asked() -> None:
    experiment = prepare_experiment(make_config(teachers=5, teachers_without=2, loss="soft"))
    left_out = deal_out(experiment)
    assert left_out.shape == (5, len(experiment.x))
    assert (left_out.sum(0) == 2).all()
    assert (left_out.sum(1) > 0).all()


def test_soft_labels_come_from_teachers_without_the_record() -> None:
    """Members' labels are wrong at random here: a teacher that saw a record would repeat its label, others cannot."""
    config = make_config(teachers=3, teachers_without=1, teacher_steps=200, loss="soft:0", rounds=0, final_steps=20)
    experiment = prepare_experiment(config)
    experiment.y.copy_(torch.randint(10, experiment.y.shape, generator=torch.Generator().manual_seed(0)))
    state = run_search(experiment, start_search(experiment), lambda *_: None, lambda *_: None, skip_dense=True)
    assert state.soft is not None and state.taught == 3
    torch.testing.assert_close(state.soft.sum(1), torch.ones(len(experiment.y)))
    repeated = float((state.soft.argmax(1) == experiment.y).float().mean())
    assert repeated < 0.2  # chance is 0.1


@pytest.mark.parametrize("rule", ["distil", "dmp", "adversarial", "private"])
def test_every_rule_trains(rule: str) -> None:
    state = search(make_config(rule=rule, rounds=1, candidates=["magnitude/random"]), skip_dense=False)
    first, last = state.records[0], state.records[-1]
    assert first["selected"] and last["task_accuracy"] > 0.2


def test_a_pareto_front_is_kept_and_can_be_picked_from(tmp_path: Path) -> None:
    config = make_config({"selection": "pareto"}, candidates=["magnitude/gradient", "set/random", "keep/relax:1.5"])
    compress(config, tmp_path / "run")
    front = read_front(tmp_path / "run")
    records = read_run(tmp_path / "run").candidates
    assert {candidate["name"] for candidate in front} <= {record["name"] for record in records}
    figures = [(-c["task_accuracy"], c["attack_accuracy"], c["attack_auc"], c["nnz"], c["macs"]) for c in records]
    for candidate in front:
        own = (-candidate["task_accuracy"], candidate["attack_accuracy"], candidate["attack_auc"],
               candidate["nnz"], candidate["macs"])  # fmt: skip
        assert not any(all(a <= b for a, b in zip(other, own, strict=True)) and other != own for other in figures)
    name = front[-1]["name"]
    summary = pick(tmp_path / "run", name, tmp_path / "picked")
    picked = read_run(tmp_path / "picked")
    stored = read_tensors(tmp_path / "run" / "front.safetensors")
    weights = read_tensors(tmp_path / "picked" / "model.safetensors")
    assert all(torch.equal(stored[f"{name}/model/{key}"], value) for key, value in weights.items())
    assert summary["picked"] == picked.summary["picked"] == name
    assert summary["sparse"]["validation_accuracy"] == pytest.approx(front[-1]["task_accuracy"])
    with pytest.raises(ConfigError, match=r"no candidate '9\.9'"):
        pick(tmp_path / "run", "9.9", tmp_path / "other")
    with pytest.raises(OutputError, match="exists already"):
        pick(tmp_path / "run", name, tmp_path / "picked")
    with pytest.raises(ConfigError, match="is the run that is picked from"):
        pick(tmp_path / "run", name, tmp_path / "run", overwrite=True)


def test_a_run_without_a_front_says_how_to_get_one(made_run: Path) -> None:
    with pytest.raises(ConfigError, match="kept no front"):
        read_front(made_run)


def test_a_given_dense_checkpoint_is_the_baseline(tmp_path: Path, made_run: Path) -> None:
    config = make_config(dense_checkpoint=str(made_run / "dense.safetensors"), rounds=1)
    compress(config, tmp_path / "run")
    ours, theirs = (read_tensors(folder / "dense.safetensors") for folder in (tmp_path / "run", made_run))
    assert all(torch.equal(ours[name], value) for name, value in theirs.items())
    wrong = make_config(dense_checkpoint=str(made_run / "masks.safetensors"))
    with pytest.raises(ConfigError, match="does not fit the model"):
        compress(wrong, tmp_path / "other")


def test_private_training_states_its_cost(tmp_path: Path) -> None:
    config = make_config(rule="private", rule_options={"epsilon": 4.0}, candidates=["magnitude/random"])
    privacy = compress(config, tmp_path / "run")["privacy"]
    assert 3.9 < privacy["epsilon"] <= 4.0 and privacy["covers_the_search"]
    looks = make_config(rule="private", candidates=["magnitude/gradient"])
    assert not compress(looks, tmp_path / "other")["privacy"]["covers_the_search"]
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["privacy"] == privacy


def test_options_of_another_rule_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="rule 'private' has no option 'strength'"):
        compress(make_config(rule="private", rule_options={"strength": 1.0}), tmp_path / "run")
