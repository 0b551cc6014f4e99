"""Gives a command the examples that its --help ends with."""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


def example(*lines: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Attach example command lines; cli.app prints them under the options."""

    def attach(command: Callable[P, R]) -> Callable[P, R]:
        command.EXAMPLE = "\n\n".join(["Examples:", *(f"[bold]{line}[/bold]" for line in lines)])  # type: ignore[attr-defined]
        return command

    return attach
