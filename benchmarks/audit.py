"""Every attack on the dense model and on SafeCompress at density 0.05, in PyTorch, ONNX Runtime and ExecuTorch.

For each study named, the cell of SafeCompress at density 0.05 and seed 0 is trained as in the study, with a dense model of
as many steps beside it; both are exported and audited with shadow models on records that neither training nor selection
saw. Writes results/audit.csv, a row for each data set, model, runtime and attack. What is there already is not made again:
runs lie under --work, shadow models in the runs.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sctool.domain.config import Config
from sctool.workflows.compress import compress
from sctool.workflows.export import export
from sctool.workflows.run_directory import read_run
from sctool.workflows.shadows import train_shadows
from sctool.workflows.study import cut_into_cells, read_study
from sctool.workflows.training import count_steps
from sctool.workflows.verify import QUERIES, Audit, verify

HERE = Path(__file__).parent
SHADOWS = {"location30": 16, "uci_har": 32, "fashion_mnist": 16, "cifar10": 16}
DENSITY, SEED = 0.05, 0
INTERVALS = ("auc", "balanced_accuracy", "accuracy")
COLUMNS = (
    "set", "model", "runtime", "attack", "members", "non_members", "shadows",
    *(f"{name}{end}" for name in INTERVALS for end in ("", "_low", "_high")),
    *(f"tpr_at_{share}{end}" for share in ("0.1pct", "1pct", "10pct") for end in ("", "_low", "_high")),
    "auc_p", "test_accuracy", "size_bytes", "parity_max_abs_error", "verdict",
)  # fmt: skip
SHARES = {"0.1pct": "0.001", "1pct": "0.01", "10pct": "0.1"}


def find_config(name: str) -> Config:
    """The study's SafeCompress, with a dense model trained for as many steps."""
    path = HERE / "studies" / f"{name}.toml"
    cells = cut_into_cells(read_study(path), where=str(path))
    config = next(
        cell.config
        for cell in cells
        if (cell.method, cell.defence, cell.density, cell.seed) == ("safecompress", "none", DENSITY, SEED)
    )
    steps = config.compress.model_copy(update={"dense_steps": count_steps(config.compress)})
    return config.model_copy(update={"name": name, "compress": steps})


def make_run(name: str, work: Path, jobs: int) -> Path:
    """The run directory with its shadow models."""
    folder = work / name
    if not (folder / "summary.json").is_file():
        compress(find_config(name), folder, resume=True)
    train_shadows(read_run(folder), SHADOWS[name], queries=QUERIES, kinds=("sparse", "dense"), jobs=jobs, progress=tell)
    return folder


def tell(done: int, total: int, what: str) -> None:
    print(f"{what}: {done} of {total}", flush=True)


def audit(name: str, work: Path, jobs: int) -> Iterator[dict[str, Any]]:
    """Rows of COLUMNS."""
    folder = make_run(name, work, jobs)
    for model in ("dense", "sparse"):
        bundle, manifest = export(folder, model=model, output=work / f"{name}-{model}", overwrite=True)
        _, found = verify(bundle, run=folder, audit=Audit(("all",), SHADOWS[name], "masks", jobs))
        for column in found["columns"]:
            if column["kind"] in (model, "artifact"):
                yield from read_column(name, model, column, found, manifest)


def read_column(
    name: str, model: str, column: dict[str, Any], found: dict[str, Any], manifest: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    file = next((file for file in manifest["files"] if column["name"].startswith(file)), None)
    for attack in column["attacks"]:
        row: dict[str, Any] = {
            "set": name, "model": "SafeCompress" if model == "sparse" else model, "attack": attack["attack"],
            "runtime": column["name"] if file else "PyTorch", "members": attack["members"],
            "non_members": attack["non_members"], "shadows": found["shadows"]["count"],
            "auc_p": attack["p_values"]["auc"], "test_accuracy": column["test_accuracy"],
            "size_bytes": manifest["files"][file]["size_bytes"] if file else None,
            "parity_max_abs_error": column["parity"]["max_abs_error"] if column["parity"] else None,
            "verdict": found["verdict"],
        }  # fmt: skip
        for key in INTERVALS:
            row |= spread(key, attack[key])
        for label, share in SHARES.items():
            row |= spread(f"tpr_at_{label}", attack["tpr_at_fpr"][share])
        yield row


def spread(key: str, interval: dict[str, float] | None) -> dict[str, float | None]:
    values = interval or {"value": None, "low": None, "high": None}
    return {key: values["value"], f"{key}_low": values["low"], f"{key}_high": values["high"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sets", nargs="*", default=list(SHADOWS), help="studies; default: all four")
    parser.add_argument("--work", type=Path, default=Path("runs/audit"))
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--train", action="store_true", help="train runs and shadow models, and no more")
    given = parser.parse_args()
    if given.train:
        for name in given.sets:
            make_run(name, given.work, given.jobs)
        return
    rows = [row for name in given.sets for row in audit(name, given.work, given.jobs)]
    with (HERE / "results" / "audit.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows({key: f"{v:.5g}" if isinstance(v, float) else v for key, v in row.items()} for row in rows)


if __name__ == "__main__":
    main()
