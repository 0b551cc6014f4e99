"""The commands that do the job: compress, export, verify, profile, report, run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import typer

from sctool.cli import render
from sctool.cli.example import example
from sctool.cli.guard import guarded
from sctool.cli.options import (
    AsJson,
    BundlePath,
    ConfigPath,
    Debug,
    ExecutorchRunner,
    OnDevice,
    Override,
    Overwrite,
    Quiet,
    ResultFile,
    Resume,
    RunPath,
)
from sctool.cli.output import Output
from sctool.cli.password import read_key
from sctool.domain.artifact import Optimisation
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
    "sctool export runs/digits --dense",
    "sctool export runs/digits --sign release.key --overwrite",
    "sctool export runs/digits --codec small --dry-run",
    "sctool export runs/digits --precision float32,int8 --overwrite",
)
@guarded
def export(
    run: RunPath,
    target: Annotated[
        str | None, typer.Option("--target", "-t", help="android, linux-arm64, host, ios, ... (see `sctool targets`).")
    ] = None,
    backend: Annotated[
        str | None,
        typer.Option(
            "--backend",
            help="xnnpack, or sparse where zeros save time (.pte, .sparse.onnx); default: the target's.",
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Bundle directory; default RUN/bundles/TARGET.")
    ] = None,
    dense: Annotated[
        bool, typer.Option("--dense", help="The dense baseline instead, into RUN/bundles/TARGET-dense, to compare.")
    ] = False,
    overwrite: Overwrite = False,
    codec: Annotated[
        str | None,
        typer.Option("--codec", help="auto, small, fast, ort, or one codec's name; overrides export.codec."),
    ] = None,
    precision: Annotated[
        str | None,
        typer.Option("--precision", help="float32, float16, int8, or some with commas; overrides export.precisions."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Write nothing; show what every codec makes of every layer.")
    ] = False,
    sign: Annotated[
        Path | None, typer.Option("--sign", metavar="KEY", help="Sign the bundle with this secret key of minisign's.")
    ] = None,
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
    precisions = [name.strip() for name in precision.split(",")] if precision is not None else None
    if dry_run:
        return _plan(sink, run, codec, precisions)
    key = read_key(sign) if sign else None
    with sink.progress() as progress:
        folder, manifest = work(
            run, target=target, model="dense" if dense else "sparse", backend=chosen, output=output,
            overwrite=overwrite, codec=codec, precisions=precisions, key=key, progress=progress,
        )  # fmt: skip
    sink.result({"bundle": str(folder), **manifest}, lambda out: render.draw_export(out, manifest, str(folder)))


@example(
    "sctool verify runs/digits/bundles/android",
    "sctool verify BUNDLE --max-auc 0.55 --json",
    "sctool verify BUNDLE --shadows 16 --attacks all --jobs 2",
    "sctool verify BUNDLE --baseline OLD_BUNDLE --junit verify.xml",
    "sctool verify app-release.apk --run runs/digits",
    "sctool verify BUNDLE --device emulated",
)
@guarded
def verify(
    subject: Annotated[
        str,
        typer.Argument(
            metavar="WHAT",
            help="A bundle; a .onnx, .pte or .spte; an .apk, .aab, .aar, .ipa or .zip; or module:callable.",
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
    max_class_auc: Annotated[
        float | None, typer.Option(min=0, max=1, help="Gate on the AUC within each class.")
    ] = None,
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
    optimisation: Annotated[
        str,
        typer.Option("--optimisation", help="ONNX Runtime's level where it is deployed: none, basic, extended, all."),
    ] = "all",
    baseline: Annotated[
        Path | None, typer.Option("--baseline", help="An earlier bundle or verification.json: leaking more fails.")
    ] = None,
    junit: Annotated[Path | None, typer.Option("--junit", help="Also write the verdict as JUnit XML.")] = None,
    signed_by: Annotated[
        Path | None, typer.Option("--signed-by", metavar="PUBKEY", help="Refuse a bundle that this key did not sign.")
    ] = None,
    device: OnDevice = None,
    executorch_runner: ExecutorchRunner = None,
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
    gates = Gates(max_attack_accuracy, max_auc, max_tpr_at_1pct_fpr, max_class_auc)
    if shadow_way not in ("masks", "search"):
        raise ConfigError(f"--shadow-way {shadow_way!r}: it is masks or search.")
    if optimisation not in get_args(Optimisation):
        raise ConfigError(f"--optimisation {optimisation!r}: it is one of {', '.join(get_args(Optimisation))}.")
    names = tuple(attacks.replace(" ", "").split(",")) if attacks else ()
    audit = Audit(names, shadows, shadow_way, jobs, optimisation)  # type: ignore[arg-type]
    with sink.progress() as progress:
        file, verification = work(
            subject, run=run, config=config, data_source=data, gates=gates, audit=audit, baseline=baseline, output=output,
            junit=junit, signed_by=signed_by, device=device, executorch_runner=executorch_runner, progress=progress,
        )  # fmt: skip
    sink.result(_without_curves(verification), lambda out: render.draw_verify(out, verification, str(file)))
    _fail_on_leak(verification)


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
    data: Annotated[
        str | None, typer.Option("--data", help="Data source, where it differs from the manifest's.")
    ] = None,
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
    _fail_over_budget(record)


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


def _plan(sink: Output, run: Path, codec: str | None, precisions: list[str] | None) -> None:
    from sctool.workflows.export import plan_export

    plan = plan_export(run, codec=codec, precisions=precisions)
    sink.result(plan, lambda out: render.draw_plan(out, plan))


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
