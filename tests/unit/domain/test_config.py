"""The configuration: TOML in, overrides over it, and errors that name the key and the nearest valid one."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from sctool.domain.config import Config, load_config
from sctool.errors import ConfigError
from sctool.workflows.init import config_schema, render_config, write_config

EXAMPLE = Path(__file__).resolve().parents[3] / "examples" / "digits.toml"


def test_the_commented_config_is_the_defaults_and_the_example() -> None:
    assert Config.model_validate(tomllib.loads(render_config())) == Config()
    assert EXAMPLE.read_text(encoding="utf-8") == render_config()


def test_init_refuses_to_replace(tmp_path: Path) -> None:
    path = tmp_path / "sctool.toml"
    write_config(path, overwrite=False)
    assert load_config(path) == Config()
    with pytest.raises(Exception, match="exists already"):
        write_config(path, overwrite=False)


def test_overrides_lie_over_the_file(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text("[compress]\ndensity = 0.2\nseed = 3\n")
    config = load_config(
        path, ["compress.density=0.05", "model.source=small_cnn", 'compress.candidates=["set/random"]']
    )
    assert (config.compress.density, config.compress.seed) == (0.05, 3)
    assert config.model.source == "small_cnn"
    assert config.compress.candidates == ["set/random"]


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("compres.density=1", "unknown key 'compres'. Did you mean 'compress'"),
        ("compress.densty=1", "unknown key 'compress.densty'. Did you mean 'density'"),
        ("data.split.tran=0.1", "unknown key 'data.split.tran'. Did you mean 'train'"),
        ("compress.density=0", "compress.density = 0: Input should be greater than 0"),
        ("compress.density=1.5", "less than or equal to 1"),
        ("compress.density=-0.1", "greater than 0"),
        ("compress.density=nan", "compress.density = nan"),
        ("compress.density=many", "compress.density = 'many'"),
        ("compress.rounds=-1", "compress.rounds = -1"),
        ("compress.density", "has no '='"),
        ("name.first=x", "unknown key|valid string"),
    ],
)
def test_wrong_settings_are_named(override: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        load_config(None, [override])


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="sctool init"):
        load_config(tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("[compress\n")
    with pytest.raises(ConfigError, match=r"not valid TOML.*line 1"):
        load_config(tmp_path / "bad.toml")
    (tmp_path / "bin.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="not valid TOML"):
        load_config(tmp_path / "bin.toml")


def test_the_schema_names_every_section() -> None:
    assert set(config_schema()["properties"]) == set(Config.model_fields)
