"""The command that writes the bundle: export."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from sctool.cli import render
from sctool.cli.example import example
from sctool.cli.guard import guarded
from sctool.cli.options import AsJson, Debug, Overwrite, Quiet, RunPath
from sctool.cli.output import Output
from sctool.cli.password import read_key
from sctool.errors import ConfigError


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


def _plan(sink: Output, run: Path, codec: str | None, precisions: list[str] | None) -> None:
    from sctool.workflows.export import plan_export

    plan = plan_export(run, codec=codec, precisions=precisions)
    sink.result(plan, lambda out: render.draw_plan(out, plan))
