"""What a workflow tells its caller while it works; the command line draws it, a program may ignore it."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[int, int, str], None]
"""Called with the steps done, the steps in all and what is being done."""


def ignore_progress(done: int, total: int, what: str) -> None:
    """The Progress that says nothing."""
