"""The zoo's sizes against numbers worked out by hand, its options, and how it refuses what it cannot take."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sctool.errors import ConfigError, SctoolError
from sctool.models.build import build_model
from sctool.models.mobilenet import MobileNetV2
from sctool.models.tabular import Mlp


def build(source: str, input_shape: tuple[int, ...], classes: int = 10, **options: Any) -> nn.Module:
    return build_model(source, options, input_shape=input_shape, classes=classes, seed=0)


def size(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


CIFAR = (3, 32, 32)
SIZES = [
    ("mlp", (64,), 10, {}, 64 * 512 + 512 + 512 * 256 + 256 + 256 * 10 + 10),
    ("mlp", (600,), 100, {"hidden": [8], "activation": "tanh", "dropout": 0.5}, 600 * 8 + 8 + 8 * 100 + 100),
    ("lenet", (1, 28, 28), 10, {}, 61_706),
    ("lenet", (1, 32, 32), 10, {}, 61_706),
    ("lenet", CIFAR, 10, {}, 62_006),
    ("alexnet", CIFAR, 10, {}, 23_296 + 307_392 + 663_936 + 884_992 + 590_080 + 2_570),
    ("alexnet", CIFAR, 100, {}, 2_495_396),
    ("vgg16", CIFAR, 10, {}, 14_728_266),
    ("vgg16", (1, 28, 28), 10, {}, 14_728_266 - 2 * 9 * 64),
    ("resnet18", CIFAR, 10, {}, 11_173_962),
    ("resnet18", CIFAR, 100, {}, 11_220_132),
    ("resnet18", (3, 64, 64), 200, {"stem": "imagenet64"}, 11_173_962 + 190 * 513),
    ("resnet18", (3, 64, 64), 1000, {"stem": "imagenet"}, 11_689_512),
    ("mobilenet_v2", CIFAR, 10, {}, 2_236_682),
    ("mobilenet_v2", (3, 128, 128), 1000, {}, 3_504_872),
    ("cnn1d", (9, 128), 6, {}, (9 * 5 + 3) * 64 + (64 * 5 + 3) * 128 + (128 * 5 + 3) * 128 + 129 * 6),
]


@pytest.mark.parametrize(("source", "shape", "classes", "options", "expected"), SIZES)
def test_parameter_counts(
    source: str, shape: tuple[int, ...], classes: int, options: dict[str, Any], expected: int
) -> None:
    assert size(build(source, shape, classes, **options)) == expected


def test_mlp_keeps_its_names_and_its_first_weights() -> None:
    """Stored results depend on both."""
    model = build("mlp", (64,))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        expected = [nn.Linear(64, 512), nn.Linear(512, 256), nn.Linear(256, 10)]
    state = model.state_dict()
    assert list(state) == [f"layers.{number}.{kind}" for number in (1, 3, 5) for kind in ("weight", "bias")]
    for number, layer in zip((1, 3, 5), expected, strict=True):
        assert torch.equal(state[f"layers.{number}.weight"], layer.weight)
        assert torch.equal(state[f"layers.{number}.bias"], layer.bias)
    assert not any(isinstance(module, nn.Dropout) for module in model.modules())


def test_mlp_activation_and_dropout() -> None:
    model = build("mlp", (6,), hidden=[8], activation="tanh", dropout=0.5)
    x = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
    first, last = (module for module in model.modules() if isinstance(module, nn.Linear))
    torch.testing.assert_close(model.eval()(x), last(torch.tanh(first(x))))
    model.train()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        assert not torch.equal(model(x), model(x))


def test_mlp_drops_after_every_hidden_layer() -> None:
    kinds = [type(module).__name__ for module in Mlp((4,), 2, hidden=(3, 3), dropout=0.1).layers]
    assert kinds == ["Flatten", "Linear", "ReLU", "Dropout", "Linear", "ReLU", "Dropout", "Linear"]


WIDE = [("alexnet", 0.25), ("vgg16", 0.25), ("resnet18", 0.25)]


@pytest.mark.parametrize(("source", "width"), WIDE)
def test_width_scales_every_convolution(source: str, width: float) -> None:
    wide, narrow = (
        [module.out_channels for module in model.modules() if isinstance(module, nn.Conv2d)]
        for model in (build(source, CIFAR), build(source, CIFAR, width=width))
    )
    assert narrow == [round(channels * width) for channels in wide]


def test_width_never_scales_to_nothing() -> None:
    model = build("resnet18", CIFAR, width=0.001)
    assert all(module.out_channels == 1 for module in model.modules() if isinstance(module, nn.Conv2d))


SHRINKS = [
    ("resnet18", {"width": 0.1}, "blocks", 32, 4),
    ("resnet18", {"width": 0.1, "stem": "imagenet64"}, "blocks", 64, 4),
    ("resnet18", {"width": 0.1, "stem": "imagenet"}, "blocks", 224, 7),
    ("mobilenet_v2", {"width": 0.1}, "blocks", 32, 4),
    ("mobilenet_v2", {"width": 0.1}, "blocks", 64, 4),
    ("mobilenet_v2", {"width": 0.1}, "blocks", 128, 4),
    ("mobilenet_v2", {"width": 0.1}, "blocks", 224, 7),
    ("alexnet", {"width": 0.1}, "features", 32, 1),
    ("alexnet", {"width": 0.1}, "features", 64, 2),
    ("vgg16", {"width": 0.1}, "features", 28, 1),
    ("vgg16", {"width": 0.1}, "features", 64, 2),
    ("lenet", {}, "features", 28, 5),
    ("lenet", {}, "features", 32, 5),
]


@pytest.mark.parametrize(("source", "options", "part", "side", "expected"), SHRINKS)
def test_sides_before_the_head(source: str, options: dict[str, Any], part: str, side: int, expected: int) -> None:
    model = build(source, (3, side, side), **options).eval()
    seen: list[list[int]] = []

    def note(_module: nn.Module, _inputs: tuple[Tensor, ...], answer: Tensor) -> None:
        seen.append(list(answer.shape[2:]))

    model.get_submodule(part).register_forward_hook(note)
    with torch.no_grad():
        model(torch.zeros(1, 3, side, side))
    assert seen == [[expected, expected]]


SMALLEST = [
    ("lenet", (1, 12, 40), (1, 11, 40), {}, "11 x 40; needed sides of at least 12"),
    ("alexnet", (3, 16, 16), (3, 16, 15), {"width": 0.1}, "16 x 15; needed sides of at least 16"),
    ("vgg16", (3, 16, 16), (3, 15, 16), {"width": 0.1}, "15 x 16; needed sides of at least 16"),
    ("resnet18", (3, 8, 9), (3, 7, 9), {"width": 0.1}, "7 x 9; needed sides of at least 8"),
    ("resnet18", (3, 16, 16), (3, 8, 8), {"width": 0.1, "stem": "imagenet64"}, "needed sides of at least 16"),
    ("resnet18", (3, 32, 32), (3, 16, 16), {"width": 0.1, "stem": "imagenet"}, "needed sides of at least 32"),
    ("mobilenet_v2", (1, 8, 8), (1, 8, 7), {"width": 0.1}, "8 x 7; needed sides of at least 8"),
    ("cnn1d", (3, 8), (3, 7), {}, "a length of 7; needed at least 8"),
]


@pytest.mark.parametrize(("source", "enough", "too_small", "options", "message"), SMALLEST)
def test_the_smallest_input_and_the_one_below(
    source: str, enough: tuple[int, ...], too_small: tuple[int, ...], options: dict[str, Any], message: str
) -> None:
    model = build(source, enough, **options)
    assert list(model(torch.zeros(3, *enough)).shape) == [3, 10]  # in training mode too
    with pytest.raises(ConfigError, match=message):
        build(source, too_small, **options)


def test_small_cnn_refuses_a_side_under_four() -> None:
    with pytest.raises(SctoolError, match="small_cnn"), pytest.warns(UserWarning, match="zero-element"):
        build("small_cnn", (1, 3, 3))


REFUSED = [
    ("mlp", (4,), {"activation": "gelu"}, "found activation = 'gelu'; needed one of relu, tanh"),
    ("mlp", (4,), {"dropout": 1.0}, "found dropout = 1.0; needed 0 <= dropout < 1"),
    ("mlp", (4,), {"width": 2}, "unexpected keyword argument 'width'"),
    ("resnet18", CIFAR, {"stem": "tiny"}, "found stem = 'tiny'; needed one of cifar, imagenet64, imagenet"),
    ("resnet18", CIFAR, {"width": 0}, "found width = 0; needed a multiplier above 0"),
    ("vgg16", CIFAR, {"width": float("nan")}, "found width = nan"),
    ("mobilenet_v2", CIFAR, {"width": -1}, "found width = -1"),
    ("alexnet", CIFAR, {"width": "half"}, "not supported between instances of 'str' and 'int'"),
    ("lenet", (784,), {}, "found a record of 1 dimensions; needed 3: channels, height, width"),
    ("cnn1d", CIFAR, {}, "found a record of 3 dimensions; needed 2: channels, length"),
    ("cnn1d", (9, 128), {"kernel": 4}, "found kernel = 4; needed an odd number"),
    ("cnn1d", (9, 128), {"channels": []}, "needed at least one block"),
    ("resnet_18", CIFAR, {}, "neither a zoo model nor"),
]


@pytest.mark.parametrize(("source", "shape", "options", "message"), REFUSED)
def test_wrong_options_and_shapes_are_config_errors(
    source: str, shape: tuple[int, ...], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        build(source, shape, **options)


def test_mobilenet_channels_are_multiples_of_eight() -> None:
    for width in (0.05, 0.35, 0.75, 1.4):
        model = MobileNetV2(CIFAR, 10, width=width)
        assert all(m.out_channels % 8 == 0 for m in model.modules() if isinstance(m, nn.Conv2d))
        assert isinstance(model.head[-1], nn.Linear)
        assert model.head[-1].in_features == (1792 if width == 1.4 else 1280)
