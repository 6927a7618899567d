"""Tables for who reads a command's output."""

from __future__ import annotations

import sys

from rich.console import Console
from rich.table import Table


def terminal(*, width: int) -> Console:
    """The console of standard output, so many columns wide where that is no terminal. Text is printed as it is: what
    is in brackets, such as an error may quote, isn't taken for markup."""
    return Console(width=None if sys.stdout.isatty() else width, markup=False, emoji=False, highlight=False)


def text_of(table: Table, *, width: int) -> str:
    """A table as `terminal` prints it."""
    console = terminal(width=width)
    with console.capture() as capture:
        console.print(table)
    return capture.get()
