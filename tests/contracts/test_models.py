"""What every model of the zoo keeps to: seeding, shapes, masks, gradients, torch.func and export."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from sctool.export.executorch import export_pte
from sctool.export.onnx import export_onnx, serialise_onnx
from sctool.export.passes.batch_norm import fold_batch_norm
from sctool.export.sparsify import sparsify_onnx
from sctool.models.build import ZOO, build_model
from sctool.runtimes.eager import EagerSession
from sctool.runtimes.registry import open_session
from sctool.sparsity.maskable import MASKABLE_LAYERS, find_maskable
from sctool.sparsity.topology import random_masks

CLASSES = 5
SMALL: dict[str, tuple[str, tuple[int, ...], dict[str, Any]]] = {
    "mlp": ("mlp", (20,), {"hidden": [32, 16]}),
    "mlp-tanh-dropout": ("mlp", (20,), {"hidden": [32, 16], "activation": "tanh", "dropout": 0.3}),
    "small_cnn": ("small_cnn", (1, 8, 8), {"channels": [4, 8], "hidden": 16}),
    "lenet": ("lenet", (1, 28, 28), {}),
    "alexnet": ("alexnet", (3, 32, 32), {"width": 0.125}),
    "vgg16": ("vgg16", (3, 32, 32), {"width": 0.125}),
    "vgg16-28": ("vgg16", (1, 28, 28), {"width": 0.125}),
    "resnet18": ("resnet18", (3, 32, 32), {"width": 0.125}),
    "resnet18-imagenet64": ("resnet18", (3, 64, 64), {"width": 0.125, "stem": "imagenet64"}),
    "resnet18-imagenet": ("resnet18", (3, 64, 64), {"width": 0.125, "stem": "imagenet"}),
    "mobilenet_v2": ("mobilenet_v2", (3, 32, 32), {"width": 0.25}),
    "mobilenet_v2-64x48": ("mobilenet_v2", (3, 64, 48), {"width": 0.25}),
    "cnn1d": ("cnn1d", (9, 128), {"channels": [8, 16, 16]}),
}
ON_THE_PHONE = ["lenet", "resnet18", "mobilenet_v2", "cnn1d"]


@pytest.fixture(params=SMALL)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(autouse=True)
def _own_randomness() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def build(name: str, seed: int = 0) -> nn.Module:
    source, shape, options = SMALL[name]
    return build_model(source, options, input_shape=shape, classes=CLASSES, seed=seed)


def records(name: str, count: int, seed: int = 0) -> Tensor:
    return torch.randn(count, *SMALL[name][1], generator=torch.Generator().manual_seed(seed))


def settle(model: nn.Module, x: Tensor) -> nn.Module:
    """The model in eval mode, its BatchNorm statistics those of `x`: signals keep their scale through the layers."""
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad():
        model.train()(x)
    for norm in norms:
        norm.momentum = 0.1
    return model.eval()


def pruned(name: str, density: float = 0.1) -> nn.Module:
    """In eval mode, with random masks of `density` on every maskable weight."""
    model = build(name)
    weights = dict(model.named_parameters())
    shapes = {weight: tuple(weights[weight].shape) for weight in find_maskable(model, [])[0]}
    counts = {weight: max(1, round(density * weights[weight].numel())) for weight in shapes}
    masks = random_masks(shapes, counts, torch.Generator().manual_seed(0))
    with torch.no_grad():
        for weight, mask in masks.items():
            weights[weight].masked_fill_(~mask, 0.0).mul_(density**-0.5)  # as large a signal as the dense layer's
    return settle(model, records(name, 32, seed=1))


def test_all_of_the_zoo_is_here() -> None:
    assert {source for source, _, _ in SMALL.values()} == set(ZOO)


def test_the_seed_alone_decides_the_weights(name: str) -> None:
    one = build(name).state_dict()
    torch.manual_seed(99)
    state = torch.random.get_rng_state()
    two, other = build(name).state_dict(), build(name, seed=1).state_dict()
    assert torch.equal(torch.random.get_rng_state(), state)
    assert list(one) == list(two)
    assert all(torch.equal(one[key], two[key]) for key in one)
    assert any(not torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize("training", [True, False])
def test_logits_are_finite(name: str, training: bool) -> None:
    logits = build(name).train(training)(records(name, 7))
    assert list(logits.shape) == [7, CLASSES] and logits.dtype == torch.float32
    assert torch.isfinite(logits).all()


def test_a_record_alone_is_answered_as_in_a_batch(name: str) -> None:
    x = records(name, 6)
    model = settle(build(name), records(name, 32, seed=1))
    with torch.no_grad():
        together = model(x)
        alone = torch.cat([model(row[None]) for row in x])
    torch.testing.assert_close(alone, together, rtol=1e-5, atol=1e-5)
    assert together.std(0).min() > 1e-3  # the logits do depend on the record


def test_every_linear_and_conv_weight_is_maskable(name: str) -> None:
    model = build(name)
    maskable, left = find_maskable(model, [])
    assert left == []
    layers = [key for key, module in model.named_modules() if isinstance(module, MASKABLE_LAYERS)]
    assert maskable == [f"{key}.weight" for key in layers]
    assert set(maskable) == {key for key, parameter in model.named_parameters() if parameter.ndim > 1}


def test_every_parameter_gets_a_finite_gradient(name: str) -> None:
    model = build(name)
    labels = torch.arange(16) % CLASSES
    nn.functional.cross_entropy(model(records(name, 16)), labels).backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None, key
        assert torch.isfinite(parameter.grad).all(), key
        if parameter.ndim > 1:
            assert parameter.grad.any(), key


def test_vmap_over_two_models_equals_them_one_by_one(name: str) -> None:
    models = [settle(build(name, seed), records(name, 32, seed)) for seed in (1, 2)]
    x = records(name, 4)
    stacked = stack_module_state(models)

    def answer(parameters: dict[str, Tensor], buffers: dict[str, Tensor]) -> Tensor:
        logits: Tensor = functional_call(models[0], (parameters, buffers), (x,))
        return logits

    with torch.no_grad():
        together = vmap(answer)(*stacked)
        apart = torch.stack([model(x) for model in models])
    torch.testing.assert_close(together, apart, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(apart[0], apart[1], atol=1e-3)


def test_the_gradient_of_each_record_alone(name: str) -> None:
    """vmap over records of a gradient, as private training needs it, sums up to the batch's gradient."""
    model = settle(build(name), records(name, 32, seed=1))
    x, labels = records(name, 4), torch.tensor([0, 1, 2, 3])
    parameters = {key: parameter.detach() for key, parameter in model.named_parameters()}

    def loss(parameters: dict[str, Tensor], record: Tensor, label: Tensor) -> Tensor:
        logits = functional_call(model, parameters, (record[None],))
        return nn.functional.cross_entropy(logits, label[None])

    each = vmap(torch.func.grad(loss), in_dims=(None, 0, 0))(parameters, x, labels)
    nn.functional.cross_entropy(model(x), labels, reduction="sum").backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None
        torch.testing.assert_close(
            each[key].sum(0), parameter.grad, rtol=1e-3, atol=1e-4 * (1 + parameter.grad.abs().max().item())
        )


def test_batch_norm_folds_and_zeros_stay(name: str) -> None:
    x = records(name, 8)
    expected = EagerSession(pruned(name)).run(x.numpy())
    folded, note = fold_batch_norm(pruned(name))
    assert note == ""
    assert not any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in folded.modules())
    np.testing.assert_allclose(EagerSession(folded).run(x.numpy()), expected, rtol=1e-4, atol=1e-4)
    weights, after = dict(pruned(name).named_parameters()), dict(folded.named_parameters())
    for key in find_maskable(pruned(name), [])[0]:
        assert not after[key][weights[key] == 0].any(), key


@pytest.mark.slow
@pytest.mark.parametrize("name", list(ZOO))
def test_learns_to_tell_five_patterns_apart(name: str) -> None:
    model = build(name)
    patterns = records(name, CLASSES, seed=3)
    labels = torch.arange(20) % CLASSES
    optimizer = torch.optim.Adam(model.parameters(), lr=0.003)
    for step in range(60):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(patterns[labels] + 0.5 * records(name, 20, seed=step)), labels).backward()
        optimizer.step()
    model.eval()
    found = model(patterns[labels] + 0.5 * records(name, 20, seed=99)).argmax(1)
    assert (found == labels).float().mean() >= 0.9


@pytest.mark.slow
def test_sparse_onnx_answers_as_eager(name: str, tmp_path: Path) -> None:
    x = records(name, 9).numpy()
    expected = EagerSession(pruned(name)).run(x)
    folded, _ = fold_batch_norm(pruned(name))
    packed = sparsify_onnx(export_onnx(folded, records(name, 2), max_batch=2**20))
    path = tmp_path / "model.onnx"
    path.write_bytes(serialise_onnx(packed.proto))
    session = open_session(path)
    np.testing.assert_allclose(session.run(x), expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(session.run(x[:1]), expected[:1], rtol=1e-4, atol=1e-4)
    assert expected.std(0).max() > 1e-2
    large = [layer for layer in packed.layers if layer.size >= 4096]
    assert all(layer.codec != "dense" and layer.stored_bytes < layer.dense_bytes / 2 for layer in large)


@pytest.mark.slow
@pytest.mark.parametrize("name", ON_THE_PHONE)
def test_executorch_answers_as_eager(name: str, tmp_path: Path) -> None:
    x = records(name, 9).numpy()
    expected = EagerSession(pruned(name)).run(x)
    folded, _ = fold_batch_norm(pruned(name))
    path = tmp_path / "model.pte"
    path.write_bytes(export_pte(folded, records(name, 2), max_batch=4).program)
    session = open_session(path)
    np.testing.assert_allclose(session.run(x), expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(session.run(x[:1]), expected[:1], rtol=1e-4, atol=1e-4)
