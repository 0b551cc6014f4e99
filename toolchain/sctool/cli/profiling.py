"""The commands about cost: profile, compare."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sctool.cli import render
from sctool.cli.example import example
from sctool.cli.guard import guarded
from sctool.cli.options import (
    AsJson,
    BundlePath,
    DataSource,
    Debug,
    ExecutorchRunner,
    OnDevice,
    Quiet,
    ResultFile,
    Resume,
)
from sctool.cli.output import Output
from sctool.cli.verdicts import fail_over_budget
from sctool.errors import BudgetExceeded, ConfigError


@example(
    "sctool profile runs/digits/bundles/android",
    "sctool profile BUNDLE --threads 2 --iterations 500",
    "sctool profile BUNDLE --target android-emulated",
    "sctool profile BUNDLE --target pixel-4",
    "sctool profile BUNDLE --device attached --cluster big --csv phone.csv",
)
@guarded
def profile(
    bundle: BundlePath,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads of the runtime.")] = None,
    repeats: Annotated[int | None, typer.Option(min=1, help="Repeats, each of all iterations.")] = None,
    iterations: Annotated[int | None, typer.Option(min=1, help="Timed calls a repeat, batch 1.")] = None,
    warm_up: Annotated[int | None, typer.Option(min=0, help="Calls before the first timed one.")] = None,
    data: DataSource = None,
    target: Annotated[
        str | None, typer.Option("--target", "-t", help="android-emulated, host; a phone is estimated.")
    ] = None,
    device: OnDevice = None,
    executorch_runner: ExecutorchRunner = None,
    cluster: Annotated[str, typer.Option("--cluster", help="Cores to run on: all, big, mid or little.")] = "all",
    cool_down: Annotated[
        float, typer.Option("--cool-down", min=0, help="Seconds to wait, at most, for a device that is too warm.")
    ] = 300.0,
    allow_estimates: Annotated[
        bool, typer.Option("--allow-estimates", help="Let an estimated latency decide on the budget.")
    ] = False,
    fixed_performance: Annotated[
        bool, typer.Option("--fixed-performance", help="Android's mode of lower, steady clocks, to compare two models.")
    ] = False,
    trace: Annotated[
        Path | None, typer.Option("--trace", help="Folder for a Chrome trace of each artifact's layers.")
    ] = None,
    calibrate: Annotated[
        Path | None, typer.Option("--calibrate", help="Write a target file with these figures as its anchors.")
    ] = None,
    csv: Annotated[Path | None, typer.Option("--csv", help="Also write the figures as a table.")] = None,
    resume: Resume = False,
    output: ResultFile = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Latency, load time and peak memory of each artifact: on this host, on a phone; counts under emulation."""
    from sctool.domain.device import CLUSTERS
    from sctool.workflows.profile import Place
    from sctool.workflows.profile import profile as work

    if cluster not in CLUSTERS:
        raise ConfigError(f"--cluster {cluster!r}: it is {', '.join(CLUSTERS)}.")
    place = Place(
        device,
        target,
        cluster,
        resume,
        cool_down,
        allow_estimates,
        fixed_performance,
        trace,
        calibrate,
        executorch_runner,
    )

    sink = Output(as_json=as_json, quiet=quiet)
    with sink.progress() as progress:
        file, record = work(
            bundle, threads=threads, repeats=repeats, iterations=iterations, warm_up=warm_up, data_source=data, place=place,
            output=output, csv=csv, progress=progress,
        )  # fmt: skip
    sink.result(record, lambda out: render.draw_profile(out, record, str(file)))
    fail_over_budget(record)


@example("sctool compare old/profile.json new/profile.json", "sctool compare OLD_BUNDLE NEW_BUNDLE --max-ratio 1.02")
@guarded
def compare(
    one: Annotated[Path, typer.Argument(metavar="A", help="A profile.json, or a bundle that has one.")],
    other: Annotated[Path, typer.Argument(metavar="B", help="The same; figures are B's over A's.")],
    max_ratio: Annotated[
        float | None, typer.Option("--max-ratio", min=0, help="Exit 9 where B costs more than so many times A.")
    ] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Two profiles side by side; refuses those that were not taken under the same conditions."""
    from sctool.workflows.compare import compare as work

    sink = Output(as_json=as_json, quiet=quiet)
    rows = work(one, other)
    sink.result(rows, lambda out: render.draw_compare(out, rows))
    worse = [row for row in rows if max_ratio is not None and row["ratio"] > max_ratio]
    if worse:
        first = worse[0]
        raise BudgetExceeded(
            f"{first['artifact']}: {first['figure']} is {first['ratio']:.3f} x what it was (limit {max_ratio:g}).",
            hint="Find what changed, or raise the limit.", reported=True,
        )  # fmt: skip
