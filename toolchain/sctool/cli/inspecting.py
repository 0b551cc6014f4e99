"""The commands that look and prepare: init, targets, doctor."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sctool.cli.example import example
from sctool.cli.guard import guarded
from sctool.cli.options import AsJson, Debug, Overwrite, Quiet
from sctool.cli.output import Output
from sctool.errors import ConfigError

if TYPE_CHECKING:
    from sctool.profiling.doctor import Check


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


@example("sctool doctor", "sctool doctor --json", "sctool doctor --install-emulator", "sctool doctor --build-runtime")
@guarded
def doctor(
    install_emulator: Annotated[
        bool, typer.Option("--install-emulator", help="Fetch QEMU, a cross-compiler and ONNX Runtime for Arm; no root.")
    ] = False,
    build_runtime: Annotated[
        bool, typer.Option("--build-runtime", help="First compile the sparse runtime: C++17 and cmake, a minute.")
    ] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Say what is installed, what is missing and how to get it; exit 11 where something required is missing."""
    from sctool.errors import NativeRuntimeMissing
    from sctool.profiling.doctor import examine

    sink = Output(as_json=as_json, quiet=quiet)
    if install_emulator:
        return _install_emulator(sink)
    if build_runtime:
        _build_runtime()
    checks = [*examine(), *_device_checks()]
    record = [
        {"name": c.name, "ok": c.ok, "level": c.level, "found": c.found, "next_step": c.next_step} for c in checks
    ]
    sink.result(record, lambda out: _draw_checks(out, record))
    missing = [c.name for c in checks if not c.ok and c.level == "required"]
    if missing:
        raise NativeRuntimeMissing(f"Missing: {', '.join(missing)}.", hint="See the next steps above.", reported=True)


def _draw_checks(out: Output, checks: list[dict[str, Any]]) -> None:
    """Next steps stand below the table: in a column of their own, commands would be broken where nobody can copy them."""
    states = {"required": "MISSING"}
    rows = [[c["name"], "ok" if c["ok"] else states.get(c["level"], "not there"), c["found"]] for c in checks]
    out.table("Doctor", ["check", "state", "found"], rows, text=True)
    for c in checks:
        if c["next_step"]:
            out.line(f"{c['name']}: {c['next_step']}")


def _install_emulator(sink: Output) -> None:
    from sctool.errors import NativeRuntimeMissing
    from sctool.runtimes.device.build import build_arm_runner, build_counter
    from sctool.runtimes.device.cross import build_sparse_runner
    from sctool.runtimes.device.kit import install_kit

    kit = install_kit(lambda text: None if sink.quiet or sink.as_json else sink.line(text))
    record: dict[str, str | None] = {
        "folder": str(kit.folder), "qemu": str(kit.qemu), "runner": str(build_arm_runner(kit)),
        "sparse_runner": None, "counter": None,
    }  # fmt: skip
    lines = [f"runner: {record['runner']}"]
    for name, build, without in (
        ("sparse_runner", build_sparse_runner, "no sparse programs on devices"),
        ("counter", build_counter, "no instruction counts"),
    ):
        try:
            record[name] = str(build())
            lines.append(f"{name.replace('_', ' ')}: {record[name]}")
        except NativeRuntimeMissing as error:
            lines.append(f"{without}: {error}")
    sink.result(record, lambda out: out.line("\n".join(lines)))


def _build_runtime() -> None:
    """The library and the runner of this machine, and the runner for phones where a compiler for them is here."""
    from sctool.native.build import build_library
    from sctool.runtimes.device.cross import build_sparse_runner, list_cross_compilers

    build_library()
    if list_cross_compilers():
        build_sparse_runner()


def _device_checks() -> list[Check]:
    """What phones and emulation need, each with how it was found."""
    from sctool.errors import SctoolError
    from sctool.profiling.doctor import Check
    from sctool.runtimes.device.adb import peek_attached
    from sctool.runtimes.device.cross import HINT, list_cross_compilers
    from sctool.runtimes.device.kit import find_kit, list_replaced

    def find_phones() -> str:
        return ", ".join(f"{device.serial} ({device.state})" for device in peek_attached()) or "none attached"

    def describe_kit() -> str:
        kit = find_kit()
        newer = list_replaced(kit)
        return f"{kit.folder}" + (f", newer than pinned: {', '.join(newer)}" if newer else "")

    compilers = [compiler.name for compiler in list_cross_compilers()]
    step = None if compilers else HINT
    found = [Check("Arm C++ compiler", bool(compilers), "optional", "; ".join(compilers) or "not found", step)]
    for name, look in (("phones", find_phones), ("Arm emulator kit", describe_kit)):
        try:
            found.append(Check(name, True, "optional", look()))
        except SctoolError as error:
            found.append(Check(name, False, "optional", error.message, error.hint))
    return found


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
