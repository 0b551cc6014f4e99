"""The commands that look and prepare: init, targets, doctor."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from sctool.cli.example import example
from sctool.cli.guard import guarded
from sctool.cli.options import AsJson, Debug, Overwrite, Quiet
from sctool.cli.output import Output
from sctool.errors import ConfigError


@example("sctool init", "sctool init my.toml", "sctool init --schema > sctool.schema.json")
@guarded
def init(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="Where to write the config.")] = Path("sctool.toml"),
    schema: Annotated[bool, typer.Option("--schema", help="Print the config's JSON schema instead.")] = False,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Write a commented config that works as it is."""
    from sctool.workflows.init import config_schema, write_config

    if schema:
        typer.echo(json.dumps(config_schema(), indent=2))
        return
    write_config(path, overwrite=overwrite)
    sink = Output(as_json=as_json, quiet=quiet)
    sink.result({"config": str(path)}, lambda out: out.line(f"config: {path}  (next: sctool run {path})"))


@example("sctool targets", "sctool targets --json")
@guarded
def targets(as_json: AsJson = False, quiet: Quiet = False, debug: Debug = False) -> None:
    """List the device targets that `export --target` and `profile` know."""
    from sctool.domain.target import load_target
    from sctool.resources import list_resources

    sink = Output(as_json=as_json, quiet=quiet)
    found = [load_target(name) for name in list_resources("targets")]
    rows = [[t.name, t.kind, t.platform, t.abi, ", ".join(t.runtime)] for t in found]
    sink.result(
        [t.model_dump(mode="json") for t in found],
        lambda out: out.table("Device targets", ["name", "kind", "platform", "ABI", "runtimes"], rows, text=True),
    )


@example("sctool doctor", "sctool doctor --json")
@guarded
def doctor(as_json: AsJson = False, quiet: Quiet = False, debug: Debug = False) -> None:
    """Say what is installed, what is missing and how to get it; exit 11 where something required is missing."""
    from sctool.errors import NativeRuntimeMissing
    from sctool.profiling.doctor import examine

    sink = Output(as_json=as_json, quiet=quiet)
    checks = examine()
    rows = [
        [c.name, "ok" if c.ok else ("MISSING" if c.level == "required" else "not there"), c.found, c.next_step or ""]
        for c in checks
    ]
    record = [
        {"name": c.name, "ok": c.ok, "level": c.level, "found": c.found, "next_step": c.next_step} for c in checks
    ]
    sink.result(record, lambda out: out.table("Doctor", ["check", "state", "found", "next step"], rows, text=True))
    missing = [c.name for c in checks if not c.ok and c.level == "required"]
    if missing:
        raise NativeRuntimeMissing(f"Missing: {', '.join(missing)}.", hint="See the next steps above.", reported=True)


@example("sctool inspect model.onnx", "sctool inspect runs/digits/bundles/android --json", "sctool inspect model.spte")
@guarded
def inspect(
    path: Annotated[
        Path | None, typer.Argument(metavar="FILE", help="A .onnx, .pte, .ptd or .spte, or a bundle.")
    ] = None,
    schema: Annotated[bool, typer.Option("--schema", help="Print the JSON schema of manifest.json instead.")] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Say what a model file holds: inputs, density by layer, codec, bytes, and what runtimes do with the zeros."""
    from sctool.cli.render_inspection import draw_inspection
    from sctool.workflows.inspect import inspect_path, manifest_schema

    if schema:
        typer.echo(json.dumps(manifest_schema(), indent=2))
        return
    if path is None:
        raise ConfigError("inspect needs a file or a bundle.", hint="sctool inspect model.onnx")
    sink = Output(as_json=as_json, quiet=quiet)
    found = inspect_path(path).to_json()
    sink.result(found, lambda out: draw_inspection(out, found))
