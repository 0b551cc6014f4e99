"""Every calibration recipe: complete, readable by its readers, with splits that add up; and the real sets, where there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sctool.data.recipe import READERS, Recipe, read_recipe
from sctool.data.source import load_dataset, resolve_split
from sctool.data.splits import PAIRS, make_split
from sctool.domain.data_config import DataConfig, SplitConfig
from sctool.errors import ConfigError, DataError
from sctool.resources import list_resources

RECIPES = list_resources("calibration")
OFFICIAL: dict[str, tuple[list[int], list[int]]] = {
    "mnist": (
        [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949],
        [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009],
    ),
    "fashion_mnist": ([6000] * 10, [1000] * 10),
    "cifar10": ([5000] * 10, [1000] * 10),
    "cifar100": ([500] * 100, [100] * 100),
    "tiny_imagenet": ([500] * 200, [50] * 200),
}
"""Records of each class in the official training and test parts."""


@pytest.fixture(params=sorted(RECIPES))
def recipe(request: pytest.FixtureRequest) -> Recipe:
    return read_recipe(RECIPES[request.param])


def test_it_is_whole(recipe: Recipe) -> None:
    assert RECIPES[recipe.name].stem == recipe.name
    for text in (recipe.title, recipe.licence, recipe.obtain):
        assert text.strip() == text != ""
    assert {source.reader for source in recipe.sources} <= set(READERS)


@pytest.mark.parametrize("protocol", ["design", "authors"])
def test_its_splits_add_up(recipe: Recipe, protocol: str) -> None:
    config = DataConfig.model_validate({"source": recipe.name, "protocol": protocol})
    if protocol == "authors" and recipe.name not in OFFICIAL:
        with pytest.raises(ConfigError, match="no split of the authors"):
            resolve_split(config)
        return
    shares = resolve_split(config)
    train, test = OFFICIAL.get(recipe.name, ([500, 600], [100, 120]))
    y = np.concatenate([np.repeat(np.arange(len(train)), train), np.repeat(np.arange(len(test)), test)])
    in_train = np.arange(len(y)) < sum(train)
    split = make_split(y, shares, in_train)
    members = {pair: split[f"{pair}_members"] for pair in PAIRS}
    assert all(len(rows) == len(split[f"{pair}_non_members"]) for pair, rows in members.items())
    if protocol == "authors":
        assert np.array_equal(split["train"], np.flatnonzero(in_train))
        outside = sum(len(rows) for part, rows in split.parts.items() if "non_members" in part)
        outside += len(split["validation"]) + len(split["test"])
        assert 0.95 * sum(test) < outside <= sum(test)


def test_missing_data_are_told_with_the_places_and_the_way(recipe: Recipe, tmp_path: Path) -> None:
    if recipe.name == "digits":
        assert len(load_dataset("digits").y) == 1797
        return
    with pytest.raises(DataError) as caught:
        load_dataset(recipe.name, str(tmp_path))
    assert str(tmp_path / recipe.sources[0].path) in str(caught.value) and recipe.obtain in str(caught.value.hint)


RECORDS = {
    "location30": 5010, "uci_har": 5351, "fashion_mnist": 30_000, "adult": 48_842, "cifar10": 29_760,
    "agnews": 127_600,
}  # fmt: skip
LABELS = {"uci_har": "laying", "fashion_mnist": "ankle boot", "cifar10": "truck", "agnews": "sci/tech"}


@pytest.fixture(scope="module")
def unpacked(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real sets as .npz files."""
    if not (real_data / "unpack.py").is_file():
        return real_data
    folder = tmp_path_factory.mktemp("data")
    names = ["location30", "uci_har", "fashion_mnist", "adult"]
    subprocess.run(
        [sys.executable, str(real_data / "unpack.py"), str(folder), *names],
        check=True, capture_output=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", list(RECORDS))
def test_real_data(unpacked: Path, name: str) -> None:
    if not any((unpacked / source.path).exists() for source in read_recipe(RECIPES[name]).sources):
        pytest.skip(f"no {name} in {unpacked}")
    data = load_dataset(name, str(unpacked))
    assert len(data.y) >= RECORDS[name] and np.isfinite(data.x).all()
    assert data.labels[-1] == LABELS.get(name, data.labels[-1]) and len(data.labels) == data.y.max() + 1
    split = make_split(data.y, resolve_split(DataConfig(source=name)), data.in_train)
    members = {"location30": 1500, "uci_har": 1000, "fashion_mnist": 2000, "cifar10": 5000}.get(name, 10_000)
    if len(data.y) == RECORDS[name]:
        assert len(split["train"]) == pytest.approx(members, rel=0.01)


RECIPE = """
name = "own"
title = "t"
licence = "l"
obtain = "Make it."
shape = [2, 2]

[[sources]]
reader = "npz"
path = "none.npz"

[[sources]]
reader = "table"
path = "own.csv"
options = { label = "y", numeric = "keep" }

[normalisation]
divide = 2
mean = [1.0, 2.0]
std = [0.5, 4.0]

[split]
train = 0.4
"""


def test_a_recipe_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text(RECIPE.replace('options = { label = "y", numeric = "keep" }', 'options = { label = "y" }'))
    (tmp_path / "own.csv").write_text("a,b,c,d,y\n2,4,4,8,0\n4,2,12,0,1\n")
    with pytest.raises(DataError, match="normalised the records already"):
        load_dataset(str(path), str(tmp_path))
    np.savez(tmp_path / "none.npz", x=np.array([[2, 4, 4, 8], [4, 2, 12, 0]]), y=np.array([0, 1]))
    path.write_text(RECIPE)
    data = load_dataset(str(path), str(tmp_path))
    assert data.x.tolist() == [[[0, 2], [0, 0.5]], [[2, 0], [1, -0.5]]] and data.source == "own"
    assert data.normalisation == {"kind": "channels", "by": 2.0, "mean": [1.0, 2.0], "std": [0.5, 4.0]}
    shares = resolve_split(DataConfig.model_validate({"source": str(path), "split": {"seed": 3, "test": 0.2}}))
    assert shares == SplitConfig(seed=3, train=0.4, test=0.2)


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ('reader = "npz"', 'reader = "npzz"', r"unknown reader 'npzz'.*Did you mean 'npz'"),
        ('numeric = "keep"', 'numerik = "keep"', r"no option 'numerik'.*Did you mean 'numeric'"),
        ('numeric = "keep"', 'numeric = "kept"', r"option numeric: .*'kept'"),
        ('label = "y", ', "", "option label: Field required"),
        ('path = "none.npz"', "", "needs a path"),
        ("std = [0.5, 4.0]", "std = [0.5]", "one number a channel"),
        ("std = [0.5, 4.0]", "std = [0.5, 0]", r"normalisation\.std\.1"),
        ("mean = [1.0, 2.0]", "mean = [1.0, nan]", r"normalisation\.mean\.1"),
        ("divide = 2", "divide = 0", "greater than or equal to"),
        ("divide = 2", "divide = inf", "less than or equal to"),
        ("shape = [2, 2]", "shape = [-2, -2]", "greater than 0"),
        ("train = 0.4", "trian = 0.4", "Extra inputs"),
        ('name = "own"', "name", "Cannot read recipe"),
    ],
)
def test_a_wrong_recipe_is_named(tmp_path: Path, before: str, after: str, words: str) -> None:
    path = tmp_path / "own.toml"
    path.write_text(RECIPE.replace(before, after))
    with pytest.raises(ConfigError, match=words) as caught:
        load_dataset(str(path), str(tmp_path))
    assert "own.toml" in str(caught.value)


def test_roots_in_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number, folder in enumerate(["given", "named", "data"]):
        (tmp_path / folder).mkdir()
        x = np.zeros((4, 446)) + number
        np.savez(tmp_path / folder / "location30.npz", x=x, y=np.array([0, 1, 0, 1]))
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SCTOOL_DATA", raising=False)
    assert load_dataset("location30").x[0, 0] == 2
    monkeypatch.setenv("SCTOOL_DATA", "named")
    assert load_dataset("location30").x[0, 0] == 1
    assert load_dataset("location30", "given").x[0, 0] == 0
    monkeypatch.setenv("SCTOOL_DATA", f"nowhere{os.pathsep}named")
    np.savez(tmp_path / "named" / "fashion_mnist.npz", x=np.full((10, 28, 28), 51), y=np.arange(10))
    (tmp_path / "data" / "fashion_mnist").mkdir()
    data = load_dataset("fashion_mnist")  # A stronger root wins, in whatever form it holds the set.
    assert data.x.shape == (10, 1, 28, 28) and np.allclose(data.x, 0.2) and data.labels[9] == "ankle boot"
    with pytest.raises(DataError, match=r"9 classes, not 10"):
        np.savez(tmp_path / "named" / "fashion_mnist.npz", x=np.ones((9, 28, 28)), y=np.arange(9))
        load_dataset("fashion_mnist")
    with pytest.raises(DataError, match=r"records of shape \[27\], not \[1, 28, 28\]"):
        np.savez(tmp_path / "named" / "fashion_mnist.npz", x=np.ones((10, 27)), y=np.arange(10))
        load_dataset("fashion_mnist")


def test_a_protocol_needs_a_recipe() -> None:
    with pytest.raises(ConfigError, match="needs a recipe"):
        resolve_split(DataConfig(source="records.npz", protocol="authors"))
