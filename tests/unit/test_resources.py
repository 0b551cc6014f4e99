from __future__ import annotations

import os
from pathlib import Path

import pytest

from sctool.errors import ConfigError
from sctool.resources import find_resource, list_resources, suggest


def test_a_users_folder_wins_and_the_first_wins_most(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "host.toml").touch()
    monkeypatch.setenv("SCTOOL_TARGETS", os.pathsep.join([str(tmp_path / "a"), "", str(tmp_path / "b")]))
    assert find_resource("targets", "host") == tmp_path / "a" / "host.toml"
    assert list_resources("targets")["ios"].parent.name == "targets"


def test_a_plain_path(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    with pytest.raises(ConfigError, match=r"No file .*mine\.toml"):
        find_resource("targets", str(path))
    path.touch()
    assert find_resource("targets", str(path)) == path


def test_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"Unknown target 'hots'\. Did you mean 'host'\?"):
        find_resource("targets", "hots")


def test_suggest_lists_all_where_none_is_near() -> None:
    assert suggest("zzz", {"b", "a"}) == "Valid: a, b."
