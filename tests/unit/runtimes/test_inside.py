"""Features from inside a model, held against one record at a time in plain autograd."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from sctool.models.build import build_model
from sctool.runtimes.inside import CHUNK, DIRECTIONS, extract_features


@pytest.mark.parametrize(("name", "shape"), [("mlp", (12,)), ("small_cnn", (1, 8, 8))])
def test_gradient_norms_are_those_of_each_record_alone(name: str, shape: tuple[int, ...]) -> None:
    model = build_model(name, {}, input_shape=shape, classes=3, seed=0).eval()
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(CHUNK + 3, *shape)).astype(np.float32), rng.integers(0, 3, CHUNK + 3)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    found = extract_features(model, x, y)
    parameters = list(model.parameters())
    for row in (0, CHUNK, CHUNK + 2):
        model.zero_grad()
        loss = functional.cross_entropy(model(torch.from_numpy(x[row : row + 1])), torch.from_numpy(y[row : row + 1]))
        loss.backward()
        norms = [float(parameter.grad.norm()) for parameter in parameters if parameter.grad is not None]
        np.testing.assert_allclose(found[row, : len(norms)], np.log10(np.array(norms) + 1e-12), atol=1e-4)
        assert found[row, -1] == pytest.approx(loss.item(), abs=1e-5)
    assert found.dtype == np.float32 and found.shape[1] > len(parameters) + DIRECTIONS
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


def test_the_model_is_left_without_hooks() -> None:
    model = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 2))
    extract_features(model, np.zeros((2, 4), np.float32), np.zeros(2, np.int64))
    assert all(not module._forward_hooks for module in model.modules())
