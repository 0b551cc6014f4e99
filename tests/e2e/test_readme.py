"""The README's commands, run as they stand, in an empty folder."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from sctool import errors

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_commands_run_as_they_stand(tmp_path: Path) -> None:
    blocks = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    commands = [line for block in blocks for line in block.splitlines() if line.strip()]
    assert len(commands) >= 6
    for command in commands:
        words = shlex.split(command, comments=True)
        stated = re.search(r"# exit code (\d+)", command)
        assert words[0] == "sctool"
        done = subprocess.run(
            [sys.executable, "-m", "sctool", *words[1:]], cwd=tmp_path, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == int(stated[1] if stated else 0), f"{command}\n{done.stdout}{done.stderr}"
    assert (tmp_path / "runs/digits/report.html").is_file()


def test_every_exit_code_is_documented() -> None:
    documented = {int(code) for row in re.findall(r"^\| ([\d, ]+) \|", README, re.MULTILINE) for code in row.split(",")}
    classes = [value for value in vars(errors).values() if isinstance(value, type)]
    used = {error.exit_code for error in classes if issubclass(error, errors.SctoolError)}
    assert documented == used | {0, 2, 130, 143}


def test_links_and_pictures_exist() -> None:
    for name in (
        "README.md",
        "ARCHITECTURE.md",
        "CONTRIBUTING.md",
        "CHANGELOG.md",
        "examples/bring_your_own/README.md",
    ):
        text = (ROOT / name).read_text(encoding="utf-8")
        for target in re.findall(r"\]\((?!http)([^)#]+)\)", text):
            assert ((ROOT / name).parent / target).exists(), f"{name}: {target}"


def test_the_first_lines_are_the_two_commands() -> None:
    commands = [line.split("#")[0].strip() for line in README.splitlines() if line.startswith("    ")]
    assert commands[:2] == ["make demo", "make test"]
    assert (ROOT / ".ci" / "run").read_text(encoding="utf-8").rstrip().endswith("make test")
