"""The command that trains: compress."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sctool.cli import render
from sctool.cli.example import example
from sctool.cli.guard import guarded
from sctool.cli.options import AsJson, ConfigPath, Debug, Override, Overwrite, Quiet, Resume, RunOutput
from sctool.cli.output import Output
from sctool.errors import ConfigError


@example(
    "sctool compress sctool.toml",
    "sctool compress sctool.toml --set compress.density=0.05 --output runs/d05",
    "sctool compress sctool.toml --resume",
    "sctool compress runs/digits --pick 3.1 --output runs/picked",
)
@guarded
def compress(
    config: ConfigPath = None,
    output: RunOutput = None,
    overrides: Override = None,
    overwrite: Overwrite = False,
    resume: Resume = False,
    pick: Annotated[
        str | None,
        typer.Option("--pick", help="CONFIG is a finished run: take this model of its Pareto front; 'list' shows it."),
    ] = None,
    jobs: Annotated[
        int | None, typer.Option("--jobs", "-j", min=1, help="Candidates trained side by side; sets compress.jobs.")
    ] = None,
    canaries: Annotated[
        int | None, typer.Option("--canaries", min=10, help="For the one-run audit; sets compress.canaries.")
    ] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Train a sparse model by SafeCompress: candidates, task test, safety test, best TM-score."""
    from sctool.domain.config import load_config
    from sctool.workflows.compress import compress as work

    sink = Output(as_json=as_json, quiet=quiet)
    if pick is not None:
        return _pick(sink, config, pick, output, overwrite=overwrite)
    given = {"jobs": jobs, "canaries": canaries}
    own = [f"compress.{name}={value}" for name, value in given.items() if value is not None]
    settings = load_config(config, [*(overrides or []), *own])
    folder = output or Path(settings.output)
    with sink.progress() as progress:
        summary = work(settings, folder, overwrite=overwrite, resume=resume, progress=progress)
    sink.result({"run": str(folder), **summary}, lambda out: render.draw_compress(out, summary, str(folder)))


def _pick(sink: Output, run: Path | None, name: str, output: Path | None, *, overwrite: bool) -> None:
    from sctool.workflows.pick import pick, read_front

    if run is None:
        raise ConfigError("--pick needs the run to pick from.", hint="sctool compress RUN --pick list")
    if name == "list":
        front = read_front(run)
        return sink.result({"run": str(run), "front": front}, lambda out: render.draw_front(out, front, str(run)))
    if output is None:
        raise ConfigError("--pick needs a new run directory.", hint=f"Add --output, as in --output {run}-{name}.")
    summary = pick(run, name, output, overwrite=overwrite)
    sink.result({"run": str(output), **summary}, lambda out: render.draw_compress(out, summary, str(output)))
