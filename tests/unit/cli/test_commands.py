"""The command line's promises: what it prints, where, and with which exit code."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from sctool import __version__
from sctool.cli.app import app

COMMANDS = ["init", "compress", "export", "verify", "profile", "compare", "report", "run", "targets", "doctor"]


def call(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def test_version() -> None:
    assert call("--version").stdout == f"sctool {__version__}\n"


@pytest.mark.parametrize("command", COMMANDS)
def test_help_ends_with_examples(command: str) -> None:
    done = call(command, "--help")
    assert done.exit_code == 0
    assert f"sctool {command}" in done.stdout[done.stdout.index("Examples:") :]
    assert "--json" in done.stdout and "--debug" in done.stdout


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from typer.testing import CliRunner\n"
        "from sctool.cli.app import app\n"
        "assert CliRunner().invoke(app, ['--help']).exit_code == 0\n"
        "heavy = {'torch', 'onnx', 'onnxruntime', 'executorch', 'numpy', 'sklearn', 'matplotlib'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_completion_is_offered() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "sctool"], env={"_SCTOOL_COMPLETE": "complete_bash", "COMP_WORDS": "sctool ver",
        "COMP_CWORD": "1", "PATH": "/usr/bin"}, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert "verify" in done.stdout or "--show-completion" in call("--help").stdout


def test_targets_as_json() -> None:
    names = {target["name"] for target in json.loads(call("targets", "--json").stdout)}
    assert {"android", "linux-arm64", "host", "ios"} <= names


def test_schema_is_json() -> None:
    assert json.loads(call("init", "--schema").stdout)["properties"]["compress"]


def test_quiet_says_nothing(tmp_path: Path) -> None:
    done = call("init", str(tmp_path / "c.toml"), "--quiet")
    assert (done.exit_code, done.stdout, done.stderr) == (0, "", "")


WRONG = [
    (["compress", "none.toml"], 3, "sctool init"),
    (["compress", "--set", "compress.densty=1"], 3, "Did you mean 'density'"),
    (["compress", "--set", "compress.density=0"], 3, "compress.density = 0"),
    (["compress", "--set", 'safety.selection_attacks=["entropi"]'], 3, "Did you mean 'entropy'"),
    (["compress", "--set", 'compress.candidates=["magnitude/gradent"]'], 3, "Did you mean 'gradient'"),
    (["compress", "--set", "compress.candidates=[]"], 3, "at least one"),
    (["compress", "--set", 'compress.leave_dense=["layers.9.weight"]'], 3, "layers"),
    (["compress", "--set", "data.source=none.npz"], 4, "No file"),
    (["compress", "--set", "data.split.train=0.9"], 4, "Lower some shares"),
    (["compress", "--set", "model.source=mpl"], 3, "Did you mean 'mlp'"),
    (["compress", "--set", "model.options={hiden=[3]}"], 3, "hiden"),
    (["compress", "--set", "model.source=small_cnn"], 3, "model.options and the data's shape"),
    (["compress", "--set", "compress.learning_rate=1e18"], 5, "Lower compress.learning_rate"),
    (["compress", "--output", "/dev/null/run"], 12, "Cannot write"),
    (["export", "nowhere"], 8, "No run directory"),
    (["verify", "nowhere"], 8, "No bundle directory"),
    (["profile", "nowhere"], 8, "No bundle directory"),
    (["profile", "nowhere", "--cluster", "huge"], 3, "all, big, mid, little"),
    (["compare", "nowhere", "nowhere"], 8, "sctool profile BUNDLE"),
    (["report", "nowhere"], 8, "No run directory"),
    (["run", "none.toml"], 3, "sctool init"),
]


@pytest.mark.parametrize(("arguments", "code", "words"), WRONG, ids=[" ".join(w[0][:3]) for w in WRONG])
def test_wrong_input(
    arguments: list[str], code: int, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = call(*arguments)
    assert done.exit_code == code, done.output
    assert words in done.stderr
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    assert "Traceback" not in done.output and done.stdout == ""
    assert list(tmp_path.iterdir()) in ([], [tmp_path / "runs"])
    assert not any((tmp_path / "runs").glob("*"))


def test_json_errors_are_one_object() -> None:
    done = call("verify", "nowhere", "--json")
    assert json.loads(done.stdout)["error"]["exit_code"] == done.exit_code == 8


def test_debug_shows_the_traceback() -> None:
    assert "Traceback" in call("verify", "nowhere", "--debug").stderr


def test_usage_errors_exit_with_2() -> None:
    assert call("verfy").exit_code == 2
    assert call("export").exit_code == 2
