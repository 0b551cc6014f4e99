"""Gives a command the examples that its --help ends with."""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

EXAMPLES: dict[str, str] = {}


def example(*lines: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Register example command lines; cli.app prints them under the options."""

    def attach(command: Callable[P, R]) -> Callable[P, R]:
        EXAMPLES[command.__name__] = "\n\n".join(["Examples:", *(f"[bold]{line}[/bold]" for line in lines)])
        return command

    return attach
