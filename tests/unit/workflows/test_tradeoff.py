"""The trade-off bench: cells from a study, rows from cells, and going on where it stopped."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from tests.conftest import SHORT

from sctool.domain.compress_config import CompressConfig
from sctool.errors import ArtifactError, ConfigError
from sctool.workflows.methods import DEFENCES, METHODS, settings_of
from sctool.workflows.study import cut_into_cells, read_study
from sctool.workflows.tradeoff import bench_tradeoff, summarise

STUDY = f"""
name = "digits"
[config.model]
options = {{ hidden = [32] }}
[config.compress]
rounds = 2
warm_up_steps = 20
steps_per_round = 20
final_steps = 20
candidates = {json.dumps(SHORT["candidates"])}
loss = "cross_entropy"
[config.safety]
audit_attacks = ["modified_entropy", "correctness"]
[[cells]]
methods = ["dense", "rigl", "safecompress"]
densities = [0.1, 0.2]
seeds = [0, 1]
[[cells]]
methods = ["rigl"]
defences = ["none", "relax"]
densities = [0.1]
seeds = [0]
"""


@pytest.fixture
def study(tmp_path: Path) -> Path:
    path = tmp_path / "study.toml"
    path.write_text(STUDY)
    return path


def test_cells_are_cut_once_and_dense_has_no_density(study: Path) -> None:
    cells = cut_into_cells(read_study(study), where="study")
    names = [(cell.method, cell.defence, cell.density, cell.seed) for cell in cells]
    assert len(set(names)) == len(names) == 2 + 4 + 4 + 1
    assert [name for name in names if name[0] == "dense"] == [("dense", "none", 1.0, 0), ("dense", "none", 1.0, 1)]
    assert len({cell.key for cell in cells}) == len(cells)
    assert all(cell.config.compress.seed == cell.seed for cell in cells)


def test_every_method_and_defence_is_a_valid_config_of_as_many_steps() -> None:
    base = CompressConfig(rounds=3, warm_up_steps=10, steps_per_round=20, final_steps=30)
    total = 10 + 3 * 20 + 30
    for method in METHODS:
        for defence in DEFENCES:
            if method == "distillation" and "rule" in DEFENCES[defence]:
                with pytest.raises(ConfigError, match="each make gradients"):
                    settings_of(method, defence, base)
                continue
            config = CompressConfig.model_validate(base.model_dump() | settings_of(method, defence, base))
            assert config.warm_up_steps + config.rounds * config.steps_per_round + config.final_steps == total


def test_a_pair_is_a_method() -> None:
    base = CompressConfig()
    assert settings_of("set/random", "none", base) == settings_of("set", "none", base)


def test_it_runs_goes_on_and_writes_tables(study: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    record = bench_tradeoff([study], output)
    assert record["cells"] == record["ran"] == 11 and record["failed"] == []
    rows = list(csv.DictReader((output / "tradeoff.csv").open()))
    assert len(rows) == 11
    for row in rows:
        assert 0.5 <= float(row["test_accuracy"]) <= 1 and 0 <= float(row["attack_accuracy"]) <= 1
        expected = float(row["test_accuracy"]) / max(float(row["attack_accuracy"]), 0.5)
        assert float(row["tm_score"]) == pytest.approx(expected, rel=1e-3)
    tables = {name: (output / name).read_bytes() for name in ("tradeoff.csv", "summary.csv", "tradeoff.svg")}
    cell = next((output / "cells").iterdir())
    cell.unlink()
    again = bench_tradeoff([study], output)
    assert again["ran"] == 1
    without = ("seconds", "cpu_seconds")
    assert _strip(tables["tradeoff.csv"], without) == _strip((output / "tradeoff.csv").read_bytes(), without)


def _strip(table: bytes, columns: tuple[str, ...]) -> list[dict[str, str]]:
    rows = csv.DictReader(table.decode().splitlines())
    return [{key: value for key, value in row.items() if key not in columns} for row in rows]


def test_a_cell_that_fails_is_told_and_stops_no_other(study: Path, tmp_path: Path) -> None:
    study.write_text(
        STUDY + '[[cells]]\nmethods = ["rigl"]\ndensities = [0.1]\nseeds = [5]\nset = { learning_rate = 1e30 }\n'
    )
    record = bench_tradeoff([study], tmp_path / "out")
    (failed,) = record["failed"]
    assert failed["seed"] == 5 and "TrainingError" in failed["error"] and "at step" in failed["error"]
    assert len(list(csv.DictReader((tmp_path / "out" / "tradeoff.csv").open()))) == 11


def test_a_damaged_cell_is_named(study: Path, tmp_path: Path) -> None:
    study.write_text(STUDY.split("[[cells]]")[0] + '[[cells]]\nmethods = ["rigl"]\ndensities = [0.1]\nseeds = [0]\n')
    bench_tradeoff([study], tmp_path / "out")
    (cell,) = (tmp_path / "out" / "cells").iterdir()
    cell.write_text(cell.read_text()[:100])
    with pytest.raises(ArtifactError, match="Remove it"):
        bench_tradeoff([study], tmp_path / "out")


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ('"rigl", "safe', '"rigle", "safe', "Unknown method 'rigle'.*Did you mean 'rigl'"),
        ('"rigl", "safe', '"magnitude/gradint", "safe', "unknown grow 'gradint'.*Did you mean 'gradient'"),
        ('"relax"]', '"relaks"]', "Unknown defence 'relaks'.*Did you mean 'relax'"),
        ("rounds = 2", "round = 2", "unknown key"),
        ("densities = [0.1]", "densities = [0]", "greater than 0"),
        ("seeds = [0]", "seed = [0]", "Extra inputs|Field required"),
        ("name =", "name ", "Cannot read study"),
    ],
)
def test_a_wrong_study_is_named(study: Path, tmp_path: Path, before: str, after: str, words: str) -> None:
    study.write_text(STUDY.replace(before, after))
    with pytest.raises(ConfigError, match=words):
        bench_tradeoff([study], tmp_path / "out")
    assert not (tmp_path / "out" / "cells").exists()


def test_the_interval_over_seeds_is_students() -> None:
    base = {"study": "s", "method": "m", "defence": "none", "density": 0.1, "train_accuracy": 1.0, "attack_accuracy": 0.5,
            "attack_auc": 0.5, "tpr_at_1pct_fpr": None, "tm_score": 1.0, "seconds": 1.0, "cpu_seconds": 1.0}  # fmt: skip
    (row,) = summarise([{**base, "test_accuracy": value} for value in (0.7, 0.8, 0.9)])
    assert row["seeds"] == 3 and row["test_accuracy"] == pytest.approx(0.8)
    # t(0.975, 2) = 4.3027, standard error 0.1 / sqrt(3)
    assert row["test_accuracy_high"] == pytest.approx(0.8 + 4.3027 * 0.1 / 3**0.5, abs=1e-4)
    assert row["tpr_at_1pct_fpr"] is None and row["attack_auc_low"] == 0.5
    (one,) = summarise([{**base, "test_accuracy": 0.7}])
    assert one["test_accuracy_low"] is None
