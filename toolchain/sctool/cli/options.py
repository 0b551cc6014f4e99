"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

AsJson = Annotated[bool, typer.Option("--json", help="Print the result as one JSON object on stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an existing output.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with a run that was stopped on the way.")]
Override = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Override a setting of the config; repeatable."),
]
ConfigPath = Annotated[Path | None, typer.Argument(metavar="CONFIG", help="TOML file; without it, all defaults.")]
RunPath = Annotated[Path, typer.Argument(metavar="RUN", help="Run directory written by `sctool compress`.")]
RunOutput = Annotated[Path | None, typer.Option("--output", "-o", help="Run directory; overrides the config's.")]
DataSource = Annotated[str | None, typer.Option("--data", help="Data source, where it differs from the manifest's.")]
ResultFile = Annotated[
    Path | None, typer.Option("--output", "-o", help="Where the record goes; default: into the bundle. Replaced.")
]
BundlePath = Annotated[Path, typer.Argument(metavar="BUNDLE", help="Bundle directory written by `sctool export`.")]
OnDevice = Annotated[
    str | None,
    typer.Option(
        "--device",
        "-d",
        metavar="DEVICE",
        help="Run there: emulated, host, attached (the only phone) or a phone's serial.",
    ),
]
ExecutorchRunner = Annotated[
    Path | None,
    typer.Option(
        "--executorch-runner",
        metavar="PATH",
        help="Your executor_runner, built for the device: it runs the .pte files that ours cannot.",
    ),
]
