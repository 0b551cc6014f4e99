"""The commands over all stages: report, run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sctool.cli import render
from sctool.cli.example import example
from sctool.cli.guard import guarded
from sctool.cli.options import AsJson, ConfigPath, Debug, Override, Overwrite, Quiet, Resume, RunOutput, RunPath
from sctool.cli.output import Output
from sctool.cli.verdicts import fail_on_leak, fail_over_budget, without_curves


@example("sctool report runs/digits", "sctool report runs/digits --output report.html --overwrite")
@guarded
def report(
    run: RunPath,
    bundle: Annotated[Path | None, typer.Option("--bundle", help="Which bundle; default: the run's only one.")] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="HTML file; default RUN/report.html.")] = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Write one self-contained HTML page: trade-off, ROC, size by layer, latency."""
    from sctool.workflows.report import report as work

    sink = Output(as_json=as_json, quiet=quiet)
    page = work(run, bundle=bundle, output=output, overwrite=overwrite)
    sink.result({"report": str(page)}, lambda out: out.line(f"report: {page}"))


@example("sctool run sctool.toml", "sctool run sctool.toml --set compress.seed=1 --output runs/seed1 --overwrite")
@guarded
def run(
    config: ConfigPath = None,
    output: RunOutput = None,
    overrides: Override = None,
    overwrite: Overwrite = False,
    resume: Resume = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """All five in one go: compress, export, verify, profile, report. A leak is reported, then fails the command."""
    from sctool.domain.config import load_config
    from sctool.workflows.run import run as work

    sink = Output(as_json=as_json, quiet=quiet)
    settings = load_config(config, overrides or [])
    folder = output or Path(settings.output)
    with sink.progress() as progress:
        results = work(settings, folder, overwrite=overwrite, resume=resume, progress=progress)
    verification = results.verification

    def draw(out: Output) -> None:
        render.draw_compress(out, results.summary, str(folder))
        render.draw_export(out, results.manifest, str(results.bundle))
        render.draw_verify(out, verification, str(results.bundle / "verification.json"))
        render.draw_profile(out, results.profile, str(results.bundle / "profile.json"))
        out.line(f"report: {results.report}", style="bold")

    record = {
        "run": str(folder), "bundle": str(results.bundle), "report": str(results.report), "summary": results.summary,
        "manifest": results.manifest, "verification": without_curves(verification), "profile": results.profile,
    }  # fmt: skip
    sink.result(record, draw)
    fail_on_leak(verification)
    fail_over_budget(results.profile)
