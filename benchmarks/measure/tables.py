"""One result: a table with units in its headings, and the raw numbers behind it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any


@dataclass(kw_only=True)
class Table:
    """What one measurement gave.

    Args:
        notes: what a reader has to know to believe the numbers, and what they do not say.
        raw: everything that was measured, for `--json`.
    """

    title: str
    headings: Sequence[str]
    rows: list[Sequence[str]]
    notes: Sequence[str] = ()
    raw: Any = field(default=None)

    def __str__(self) -> str:
        """As Markdown, in columns that a terminal shows well."""
        lines = [list(self.headings), *(list(row) for row in self.rows)]
        widths = [max(len(line[n]) for line in lines) for n in range(len(self.headings))]

        def shown(line: Sequence[str]) -> str:
            first, *others = zip(line, widths, strict=True)
            return "| " + " | ".join([first[0].ljust(first[1]), *(t.rjust(width) for t, width in others)]) + " |"

        rule = "|".join(["", "-" * (widths[0] + 2), *("-" * (width + 1) + ":" for width in widths[1:]), ""])
        text = [f"## {self.title}", "", shown(lines[0]), rule, *(shown(line) for line in lines[1:])]
        if self.notes:
            text += ["", *(note if note.startswith(" ") else f"- {note}" for note in self.notes)]
        return "\n".join(text)


def middle(values: Sequence[float], form: str = "{:.2f}") -> str:
    """The median of several rounds, with the least and the greatest."""
    if len(values) == 1:
        return form.format(values[0])
    return f"{form.format(median(values))} ({form.format(min(values))}–{form.format(max(values))})"
