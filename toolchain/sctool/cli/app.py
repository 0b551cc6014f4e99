"""The command line: options in, workflow called, result rendered. No command's work is done here."""

from __future__ import annotations

from typing import Annotated

import typer

from sctool import __version__
from sctool.cli import benching, compressing, exporting, inspecting, profiling, running, verifying
from sctool.cli.example import EXAMPLES

app = typer.Typer(
    name="sctool",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Put a neural network on a phone without putting its training data there.",
    epilog="Start: [bold]sctool init[/bold], then [bold]sctool run sctool.toml[/bold].",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"sctool {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


COMMANDS = (
    inspecting.init, compressing.compress, exporting.export, verifying.verify, profiling.profile, profiling.compare,
    running.report, running.run, inspecting.inspect, inspecting.targets, inspecting.doctor,
)  # fmt: skip
"""In the order of the help."""

for command in COMMANDS:
    app.command(command.__name__, epilog=EXAMPLES[command.__name__])(command)

benching.bench.command("tradeoff", epilog=EXAMPLES["tradeoff"])(benching.tradeoff)
app.add_typer(benching.bench, name="bench")


def main() -> None:
    """Entry point of the `sctool` script."""
    app()
