"""What a workflow tells its caller while it works; the command line draws it, a program may ignore it."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Called with the steps done, the steps in all and what is being done."""

    def __call__(self, done: int, total: int, what: str) -> None: ...


def ignore_progress(done: int, total: int, what: str) -> None:
    """The Progress that says nothing."""
