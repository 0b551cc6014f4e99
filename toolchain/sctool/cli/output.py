"""The one sink of everything a command says: human, JSON or quiet."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text


class Output:
    """Results go to stdout, progress and notes to stderr; JSON mode prints exactly one object, quiet mode nothing."""

    def __init__(self, *, as_json: bool, quiet: bool) -> None:
        self.as_json = as_json
        self.quiet = quiet
        self._out = Console(highlight=False, soft_wrap=not sys.stdout.isatty())
        self._err = Console(stderr=True, highlight=False)

    def result(self, record: Any, draw: Callable[[Output], None]) -> None:
        """Print `record` as JSON, or let `draw` print it for a person."""
        if self.as_json:
            sys.stdout.write(json.dumps(record, indent=2, sort_keys=True) + "\n")
        elif not self.quiet:
            draw(self)

    def line(self, text: str, style: str | None = None) -> None:
        self._out.print(text, style=style, markup=False)

    def table(
        self, title: str, columns: list[str], rows: list[list[str]], *, text: bool = False, whole: bool = False
    ) -> None:
        """A table whose first column is text and whose others are figures, or text as well. `whole`: where the terminal is
        narrow only the first column is broken."""
        table = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, pad_edge=False,
                      collapse_padding=True)  # fmt: skip
        for number, column in enumerate(columns):
            table.add_column(Text(column), justify="left" if number == 0 or text else "right",
                             overflow="fold", no_wrap=whole and number > 0)  # fmt: skip
        for row in rows:
            table.add_row(*map(Text, row))
        self._out.print(table)

    @contextmanager
    def progress(self) -> Iterator[Callable[[int, int, str], None]]:
        """A bar on a terminal; silent elsewhere, in JSON mode and in quiet mode."""
        if self.as_json or self.quiet or not self._err.is_terminal:
            yield lambda done, total, what: None
            return
        columns = (
            TextColumn("{task.description:<44}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=self._err, transient=True) as bars:
            task = bars.add_task("", total=1)
            yield lambda done, total, what: bars.update(task, completed=done, total=max(total, 1), description=what)
