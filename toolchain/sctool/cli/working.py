"""The commands that do the job: compress, export, verify, profile, report, run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from sctool.cli import render
from sctool.cli.example import example
from sctool.cli.guard import guarded
from sctool.cli.options import (
    AsJson,
    BundlePath,
    ConfigPath,
    Debug,
    Override,
    Overwrite,
    Quiet,
    ResultFile,
    Resume,
    RunPath,
)
from sctool.cli.output import Output
from sctool.errors import BudgetExceeded, ConfigError, VerificationFailed


@example(
    "sctool compress sctool.toml",
    "sctool compress sctool.toml --set compress.density=0.05 --output runs/d05",
    "sctool compress sctool.toml --resume",
    "sctool compress runs/digits --pick 3.1 --output runs/picked",
)
@guarded
def compress(
    config: ConfigPath = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Run directory; overrides the config's.")
    ] = None,
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


@example(
    "sctool export runs/digits --target android",
    "sctool export runs/digits --target android --backend sparse",
    "sctool export runs/digits --target host --output bundle",
)
@guarded
def export(
    run: RunPath,
    target: Annotated[
        str | None, typer.Option("--target", "-t", help="android, linux-arm64, host, ios, ... (see `sctool targets`).")
    ] = None,
    backend: Annotated[
        str | None,
        typer.Option("--backend", help="Of the .pte: xnnpack, or sparse where zeros save time; default: the target's."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Bundle directory; default RUN/bundles/TARGET.")
    ] = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Write the sparse model as ONNX (sparse storage) and ExecuTorch, and hold both against eager PyTorch."""
    from sctool.workflows.export import export as work

    if backend not in (None, "xnnpack", "sparse"):
        raise ConfigError(f"--backend {backend!r}: it is xnnpack or sparse.")
    chosen: Literal["xnnpack", "sparse"] | None = backend  # type: ignore[assignment]
    sink = Output(as_json=as_json, quiet=quiet)
    with sink.progress() as progress:
        folder, manifest = work(
            run, target=target, backend=chosen, output=output, overwrite=overwrite, progress=progress
        )
    sink.result({"bundle": str(folder), **manifest}, lambda out: render.draw_export(out, manifest, str(folder)))


@example(
    "sctool verify runs/digits/bundles/android",
    "sctool verify BUNDLE --max-auc 0.55 --json",
    "sctool verify BUNDLE --shadows 16 --attacks all --jobs 2",
    "sctool verify BUNDLE --baseline OLD_BUNDLE --junit verify.xml",
    "sctool verify app-release.apk --run runs/digits",
)
@guarded
def verify(
    subject: Annotated[
        str,
        typer.Argument(
            metavar="WHAT", help="A bundle; a .onnx or .pte; an .apk, .aab, .aar, .ipa or .zip; or module:callable."
        ),
    ],
    run: Annotated[
        Path | None,
        typer.Option("--run", help="The run it came from: its records, eager columns; found by itself inside a run."),
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", help="Without a run: the TOML that names the data and their split.")
    ] = None,
    data: Annotated[
        str | None, typer.Option("--data", help="Data source, where it differs from the manifest's.")
    ] = None,
    max_attack_accuracy: Annotated[
        float | None, typer.Option(min=0, max=1, help="Gate on the attack's balanced accuracy.")
    ] = None,
    max_auc: Annotated[float | None, typer.Option(min=0, max=1, help="Gate on the attack's AUC.")] = None,
    max_tpr_at_1pct_fpr: Annotated[float | None, typer.Option(min=0, max=1, help="Gate on TPR at 1 % FPR.")] = None,
    attacks: Annotated[
        str | None, typer.Option("--attacks", help="'all', or names with commas; default: safety.audit_attacks.")
    ] = None,
    shadows: Annotated[
        int, typer.Option("--shadows", min=0, help="Train so many shadow models, for LiRA, RMIA, BASE and BaVarIA.")
    ] = 0,
    shadow_way: Annotated[
        str, typer.Option("--shadow-way", help="masks: at the model's own masks; search: a SafeCompress run each.")
    ] = "masks",
    jobs: Annotated[int, typer.Option("--jobs", "-j", min=1, help="Shadow models trained side by side.")] = 1,
    baseline: Annotated[
        Path | None, typer.Option("--baseline", help="An earlier bundle or verification.json: leaking more fails.")
    ] = None,
    junit: Annotated[Path | None, typer.Option("--junit", help="Also write the verdict as JUnit XML.")] = None,
    output: ResultFile = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Attack the exported bytes in their own runtimes; exit 0: pass, 7: leak, 8: broken artifact."""
    from sctool.workflows.judge import Gates
    from sctool.workflows.verify import Audit
    from sctool.workflows.verify import verify as work

    sink = Output(as_json=as_json, quiet=quiet)
    gates = Gates(max_attack_accuracy, max_auc, max_tpr_at_1pct_fpr)
    if shadow_way not in ("masks", "search"):
        raise ConfigError(f"--shadow-way {shadow_way!r}: it is masks or search.")
    way = "masks" if shadow_way == "masks" else "search"
    audit = Audit(tuple(attacks.replace(" ", "").split(",")) if attacks else (), shadows, way, jobs)  # type: ignore[arg-type]
    with sink.progress() as progress:
        file, verification = work(
            subject, run=run, config=config, data_source=data, gates=gates, audit=audit, baseline=baseline,
            output=output, junit=junit, progress=progress,
        )  # fmt: skip
    sink.result(_without_curves(verification), lambda out: render.draw_verify(out, verification, str(file)))
    _fail_on_leak(verification)


@example("sctool profile runs/digits/bundles/android", "sctool profile BUNDLE --threads 2 --iterations 500")
@guarded
def profile(
    bundle: BundlePath,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads of the runtime.")] = None,
    repeats: Annotated[int | None, typer.Option(min=1, help="Repeats, each of all iterations.")] = None,
    iterations: Annotated[int | None, typer.Option(min=1, help="Timed calls a repeat, batch 1.")] = None,
    warm_up: Annotated[int | None, typer.Option(min=0, help="Calls before the first timed one.")] = None,
    data: Annotated[
        str | None, typer.Option("--data", help="Data source, where it differs from the manifest's.")
    ] = None,
    output: ResultFile = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Latency, load time and peak memory of each artifact, measured on this host."""
    from sctool.workflows.profile import profile as work

    sink = Output(as_json=as_json, quiet=quiet)
    with sink.progress() as progress:
        file, record = work(
            bundle, threads=threads, repeats=repeats, iterations=iterations, warm_up=warm_up, data_source=data,
            output=output, progress=progress,
        )  # fmt: skip
    sink.result(record, lambda out: render.draw_profile(out, record, str(file)))
    _fail_over_budget(record)


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
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Run directory; overrides the config's.")
    ] = None,
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
        "manifest": results.manifest, "verification": _without_curves(verification), "profile": results.profile,
    }  # fmt: skip
    sink.result(record, draw)
    _fail_on_leak(verification)
    _fail_over_budget(results.profile)


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


def _without_curves(verification: dict[str, Any]) -> dict[str, Any]:
    """ROC curves stay in verification.json; the printed JSON would drown in them."""
    bare = {**verification, "blind_baseline": {**verification["blind_baseline"], "roc": None}}
    bare["columns"] = [
        {**column, "attacks": [{**attack, "roc": None} for attack in column["attacks"]]}
        for column in verification["columns"]
    ]
    return bare


def _fail_on_leak(verification: dict[str, Any]) -> None:
    if verification["verdict"] != "pass":
        raise VerificationFailed(
            f"The model leaks: {verification['failures'][0]}",
            hint="Lower compress.density, train for fewer steps, or add label smoothing; then export again.",
            reported=True,
        )


def _fail_over_budget(profile: dict[str, Any]) -> None:
    if profile["violations"]:
        raise BudgetExceeded(profile["violations"][0], hint="Compress further or raise the budget.", reported=True)
