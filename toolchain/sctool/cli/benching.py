"""The commands that compare: `sctool bench tradeoff`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from sctool.cli.example import example
from sctool.cli.guard import guarded
from sctool.cli.options import AsJson, Debug, Quiet
from sctool.cli.output import Output

bench = typer.Typer(no_args_is_help=True, help="Compare methods on one harness.")


@example("sctool bench tradeoff benchmarks/studies/digits.toml", "sctool bench tradeoff A.toml B.toml --jobs 2 -o out")
@guarded
def tradeoff(
    studies: Annotated[list[Path], typer.Argument(metavar="STUDY...", help="TOML files; see benchmarks/studies.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the tables; an old one goes on.")] = Path(
        "runs/tradeoff"
    ),
    jobs: Annotated[int, typer.Option("--jobs", "-j", min=1, help="Runs side by side, one thread each.")] = 1,
    as_json: AsJson = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Method x defence x density x seed: accuracy, leak, TM-score, each with its interval, as CSV and figure."""
    from sctool.workflows.tradeoff import bench_tradeoff

    sink = Output(as_json=as_json, quiet=quiet)
    with sink.progress() as progress:
        record = bench_tradeoff(studies, output, jobs=jobs, progress=progress)
    sink.result(record, lambda out: _draw(out, record))


def _draw(out: Output, record: dict[str, Any]) -> None:
    for study in dict.fromkeys(row["study"] for row in record["summary"]):
        rows = [
            [
                f"{row['density']:g}", row["method"] if row["defence"] == "none" else f"{row['method']} + {row['defence']}",
                *(_with_interval(row, name) for name in ("test_accuracy", "attack_accuracy", "attack_auc", "tm_score")),
                str(row["seeds"]),
            ]
            for row in record["summary"] if row["study"] == study
        ]  # fmt: skip
        columns = ["density", "method", "test accuracy", "attack accuracy", "attack AUC", "TM-score", "seeds"]
        out.table(study, columns, rows)
    for row in record["failed"]:
        out.line(f"failed: {row['name']}: {row['error']}", style="red")
    out.line("Attack figures: the worst of all attacks, on records that no training and no selection has seen.")
    out.line(f"tables: {record['output']}/tradeoff.csv, summary.csv; figure: tradeoff.svg")


def _with_interval(row: dict[str, Any], figure: str) -> str:
    low = row[f"{figure}_low"]
    return f"{row[figure]:.3f}" + ("" if low is None else f" ±{row[figure] - low:.3f}")
