"""What the demo prints: lines with the time since it began, in colour where the terminal has some."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import click


@dataclass(frozen=True, slots=True, kw_only=True)
class Marks:
    """The signs before a line."""

    good: str = "✓"
    bad: str = "✗"
    runs: str = "▸"
    rule: str = "─"


PLAIN_MARKS = Marks(good="ok", bad="FAILED", runs=">", rule="-")

_COLOURS = {"good": "green", "bad": "red", "runs": "cyan"}


def encoding() -> str:
    """How what we print is encoded."""
    return getattr(sys.stdout, "encoding", None) or "ascii"


def can_print(text: str) -> bool:
    """Whether the output has these characters."""
    try:
        text.encode(encoding())
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def wants_colour() -> bool:
    """Whether a person looks who has not asked for plain text (no-color.org)."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    return sys.stdout is not None and sys.stdout.isatty()


class Console:
    """Prints the demo's progress.

    Args:
        echo: prints one text, as `click.echo` does.
    """

    def __init__(self, echo: Callable[[str], object]) -> None:
        self._echo = echo
        self._began = time.monotonic()
        self._colour = wants_colour()
        self.marks = Marks() if can_print("✓✗▸─") else PLAIN_MARKS

    @property
    def seconds(self) -> float:
        """Since the demo began."""
        return time.monotonic() - self._began

    def say(self, text: str = "", *, colour: str | None = None, bold: bool = False) -> None:
        """Print a text as it is."""
        if not can_print(text):
            text = text.encode("ascii", "backslashreplace").decode("ascii")
        self._echo(click.style(text, fg=colour, bold=bold or None) if self._colour and text else text)

    def event(self, text: str, *, mark: str = "") -> None:
        """Print what has just happened; `mark` is good, bad, runs or nothing."""
        self.say(f"{self.seconds:5.1f} s  {self.sign(mark)}  {text}", colour=_COLOURS.get(mark))

    def sign(self, mark: str) -> str:
        """A mark as it is printed, or as many blanks."""
        width = 1 if self.marks.good == "✓" else 6
        return f"{getattr(self.marks, mark) if mark else '':<{width}}"

    def table(self, heading: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Print rows under a heading, each column as wide as its widest cell."""
        widths = [max(len(row[n]) for row in [heading, *rows]) for n in range(len(heading))]
        for line in [heading, [self.marks.rule * width for width in widths], *rows]:
            self.say(("  " + "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))).rstrip())
