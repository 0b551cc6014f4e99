"""Adversarial regularisation: the sign, the game's two halves against autograd and Adam, resuming, and what it buys."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from scipy.stats import mannwhitneyu
from torch import Tensor, nn
from torch.nn import functional

from sctool.errors import ConfigError
from sctool.sparsity.adversarial import AdversarialRegularisation, membership_logits
from sctool.sparsity.order import DataOrder
from sctool.sparsity.rules import Backpropagate, GradientRule
from sctool.sparsity.trainer import TrainingSettings, TrainingState, start_training, train_until

SETTINGS = TrainingSettings(0.1, 0.9, 0.0, 400, noise_seed=7)
CLASSES = 4


def make_data(records: int, seed: int) -> tuple[Tensor, Tensor]:
    """Two fifths of the labels are noise: to fit them is to memorise."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(records, 16, generator=generator)
    y = torch.where(
        torch.rand(records, generator=generator) < 0.6,
        x[:, :CLASSES].argmax(1),
        torch.randint(CLASSES, (records,), generator=generator),
    )
    return x, y


X, Y = make_data(96, 0)
REFERENCE = make_data(96, 1)
OTHERS = make_data(1000, 2)


def make_state(*middle: nn.Module) -> TrainingState:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return start_training(nn.Sequential(nn.Linear(16, 64), *middle, nn.ReLU(), nn.Linear(64, CLASSES)), {})


def attack_auc(state: TrainingState) -> float:
    """Of the attack that knows the label: the loss of members against that of others."""
    model = state.model.eval()
    with torch.no_grad():
        inside = functional.cross_entropy(model(X), Y, reduction="none").numpy()
        outside = functional.cross_entropy(model(OTHERS[0]), OTHERS[1], reduction="none").numpy()
    return float(mannwhitneyu(outside, inside).statistic) / (len(inside) * len(outside))


def accuracy(state: TrainingState, x: Tensor, y: Tensor) -> float:
    return float((state.model.eval()(x).argmax(1) == y).float().mean())


def overfit() -> TrainingState:
    state = make_state()
    train_until(state, X, Y, SETTINGS, 200, DataOrder(96, 32, 0))
    assert attack_auc(state) > 0.8
    return state


def train_attack(state: TrainingState, steps: int) -> AdversarialRegularisation:
    """A strong attack on `state` as it is; leaves gradients of the model behind."""
    rule = AdversarialRegularisation(*REFERENCE, attack_steps=steps, attack_rate=1e-2)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        rule(state, X, Y, torch.arange(96), 0)
    return rule


def member_belief(state: TrainingState) -> float:
    with torch.no_grad():
        return float(membership_logits(state.extras, state.model(X), Y).mean())


def test_the_attack_learns_to_tell_members() -> None:
    state = overfit()
    train_attack(state, 200)
    with torch.no_grad():
        outside = membership_logits(state.extras, state.model(OTHERS[0]), OTHERS[1])
    assert member_belief(state) > float(outside.mean()) + 1


@pytest.mark.parametrize("strength", [1.0, 5.0])
def test_a_step_of_the_model_makes_members_look_less_like_members(strength: float) -> None:
    state = overfit()
    train_attack(state, 200)
    before, attack = member_belief(state), copy.deepcopy(state.extras)
    rule = AdversarialRegularisation(
        *REFERENCE, strength=strength, attack_rate=0.0, loss=lambda logits, y, epoch: 0 * logits.sum()
    )
    rule(state, X, Y, torch.arange(96), 0)
    assert all(torch.equal(v, state.extras[k]) for k, v in attack.items() if k.startswith("adversary.weight"))
    with torch.no_grad():
        for parameter in state.model.parameters():
            parameter -= 0.01 * parameter.grad
    assert member_belief(state) < before


def test_the_gradient_is_that_of_the_objective_written_out() -> None:
    state = overfit()
    rule = AdversarialRegularisation(*REFERENCE, strength=2.5, attack_steps=3)
    value = rule(state, X, Y, torch.arange(96), 0)
    twin = copy.deepcopy(state.model)
    weights = {k.removeprefix("adversary.weight."): v for k, v in state.extras.items() if "weight." in k}
    attack = nn.Sequential(nn.Linear(2 * CLASSES, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1))
    attack.load_state_dict({k: v for k, v in weights.items() if k in attack.state_dict()})
    total = torch.zeros(())
    for row in range(96):
        logits = twin(X[row : row + 1])
        known = torch.cat([logits.softmax(1)[0], torch.eye(CLASSES)[Y[row]]])
        h = torch.sigmoid(attack(known))[0]
        total = total - logits.log_softmax(1)[0, Y[row]] + 2.5 * h.log()
    (total / 96).backward()
    assert float(value) == pytest.approx(float(total.detach()) / 96, rel=1e-4)
    for ours, theirs in zip(state.model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-3, atol=1e-6)


def test_the_attack_takes_the_steps_of_torch_adam() -> None:
    """One reference record, so that what is drawn does not matter."""
    x_ref, y_ref = REFERENCE[0][:1], REFERENCE[1][:1]
    state, members = make_state(), torch.arange(32)
    rule = AdversarialRegularisation(x_ref, y_ref, attack_rate=1e-2)
    rule(state, X, Y, members, 0)
    attack = nn.Sequential(nn.Linear(2 * CLASSES, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1))
    prefix = "adversary.weight."
    attack.load_state_dict({k.removeprefix(prefix): v for k, v in state.extras.items() if k.startswith(prefix)})
    adam = torch.optim.Adam(attack.parameters(), lr=1e-2)
    for name, parameter in attack.named_parameters():
        adam.state[parameter] = {
            "step": torch.tensor(1.0),
            "exp_avg": state.extras["adversary.mean." + name].clone(),
            "exp_avg_sq": state.extras["adversary.square." + name].clone(),
        }
    with torch.no_grad():
        logits = torch.cat([state.model(X[members]), state.model(x_ref).expand(32, -1)])
        labels = torch.cat([Y[members], y_ref.expand(32)])
        known = torch.cat([logits.softmax(1), functional.one_hot(labels, CLASSES).float()], dim=1)
    for _ in range(4):
        rule(state, X, Y, members, 0)  # the model itself is not stepped
        adam.zero_grad()
        belief = attack(known)[:, 0]
        (-(functional.logsigmoid(belief[:32]).mean() + functional.logsigmoid(-belief[32:]).mean()) / 2).backward()
        adam.step()
    for name, parameter in attack.named_parameters():
        torch.testing.assert_close(state.extras[prefix + name], parameter.detach(), rtol=1e-4, atol=1e-5)


def test_training_in_slices_is_training_in_one_go_through_branches() -> None:
    rule = AdversarialRegularisation(*REFERENCE, attack_steps=2)
    layers = nn.BatchNorm1d(64), nn.Dropout(0.3)
    one, other = make_state(*copy.deepcopy(layers)), make_state(*copy.deepcopy(layers))
    order = DataOrder(96, 32, 3)
    train_until(one, X, Y, SETTINGS, 13, order, rule)
    for end in (1, 5, 6, 13):
        torch.rand(end)
        parent = other
        kept = {key: value.clone() for key, value in parent.extras.items()}
        other = parent.branch()
        train_until(other, X, Y, SETTINGS, end, order, rule)
        assert all(torch.equal(value, parent.extras[key]) for key, value in kept.items())
    for name, value in one.model.state_dict().items():
        assert torch.equal(value, other.model.state_dict()[name]), name
    assert one.extras.keys() == other.extras.keys() and int(one.extras["adversary.steps"]) == 26
    assert all(torch.equal(value, other.extras[key]) for key, value in one.extras.items())
    assert not any(value.requires_grad for value in one.extras.values())


def test_without_strength_it_is_plain_training() -> None:
    one, other = make_state(nn.BatchNorm1d(64)), make_state(nn.BatchNorm1d(64))
    train_until(one, X, Y, SETTINGS, 7, DataOrder(96, 32, 0), AdversarialRegularisation(*REFERENCE, strength=0.0))
    train_until(other, X, Y, SETTINGS, 7, DataOrder(96, 32, 0))
    for name, value in one.model.state_dict().items():
        assert torch.equal(value, other.model.state_dict()[name]), name


def test_reference_records_leave_batch_norm_statistics_alone() -> None:
    one, other = make_state(nn.BatchNorm1d(64)), make_state(nn.BatchNorm1d(64))
    AdversarialRegularisation(*REFERENCE)(one, X, Y, torch.arange(32), 0)
    Backpropagate()(other, X, Y, torch.arange(32), 0)
    assert one.model.training
    assert torch.equal(one.model[1].running_mean, other.model[1].running_mean)  # type: ignore[index, union-attr]


def test_the_attack_gains_less_than_against_plain_training() -> None:
    """Both from the same weights, for the same number of steps; what is learnt of the true labels must stay."""
    found = {}
    rules: dict[str, GradientRule] = {
        "plain": Backpropagate(),
        "adversarial": AdversarialRegularisation(*REFERENCE, strength=2.0, attack_steps=2, attack_rate=3e-3),
    }
    for name, rule in rules.items():
        state = make_state()
        train_until(state, X, Y, SETTINGS, 400, DataOrder(96, 32, 0), rule)
        found[name] = (attack_auc(state), accuracy(state, *OTHERS))
    assert found["plain"][0] > 0.8
    assert found["adversarial"][0] < found["plain"][0] - 0.05
    assert found["adversarial"][1] > found["plain"][1] - 0.06


def test_bad_settings_are_refused() -> None:
    x, y = REFERENCE
    with pytest.raises(ConfigError, match="0 reference records"):
        AdversarialRegularisation(x[:0], y[:0])
    with pytest.raises(ConfigError, match="96 reference records and 5 labels"):
        AdversarialRegularisation(x, y[:5])
    for strength, steps in [(-1.0, 1), (np.nan, 1), (1.0, 0)]:
        with pytest.raises(ConfigError, match="No adversary"):
            AdversarialRegularisation(x, y, strength, steps)
