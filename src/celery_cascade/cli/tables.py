"""Tables: plain columns; on a terminal where rich is installed (the extra `cli`), rich's."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click

from celery_cascade.cli.manner import in_ascii
from celery_cascade.cli.words import colour_of, out, painted


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Write a table to stdout. Cells are text without line ends (`printable`)."""
    rows = [[in_ascii(cell) for cell in row] for row in rows]
    if not (sys.stdout.isatty() and colour_of(sys.stdout) is None and _rich(headings, rows)):
        for line in plain_table(headings, rows):
            out(line)


def plain_table(headings: Sequence[str], given: Sequence[Sequence[str]]) -> list[str]:
    """The table as lines."""
    rows = [list(headings), *map(list, given)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(map(padded, row, widths)).rstrip() for row in rows]


def padded(cell: str, width: int) -> str:
    """A cell padded to its column; a status in its colour."""
    return painted(cell) + " " * (width - len(cell))


def _rich(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> bool:
    """Whether rich was there to draw it."""
    try:
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text
    except ModuleNotFoundError:
        return False
    drawn = Table(box=None, header_style="bold", pad_edge=False)
    for number, heading in enumerate(headings):
        drawn.add_column(heading, overflow="fold", no_wrap=number == 0)  # an id that is cut in two cannot be copied
    for row in rows:
        drawn.add_row(*(Text.from_ansi(painted(click.unstyle(cell))) for cell in row))  # never read as markup
    Console().print(drawn)
    return True
