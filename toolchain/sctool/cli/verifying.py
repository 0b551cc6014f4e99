"""The command that attacks what ships: verify."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, get_args

import typer

from sctool.cli import render
from sctool.cli.example import example
from sctool.cli.guard import guarded
from sctool.cli.options import AsJson, DataSource, Debug, ExecutorchRunner, OnDevice, Quiet, ResultFile
from sctool.cli.output import Output
from sctool.cli.verdicts import fail_on_leak, without_curves
from sctool.domain.artifact import Optimisation
from sctool.errors import ConfigError


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
    data: DataSource = None,
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
    sink.result(without_curves(verification), lambda out: render.draw_verify(out, verification, str(file)))
    fail_on_leak(verification)
