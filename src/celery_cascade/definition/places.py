"""A definition's text and the places in it: line, column, and the line shown with a caret."""

from __future__ import annotations

import os
import re
import shlex
import unicodedata
from bisect import bisect_right
from dataclasses import dataclass

from celery_cascade.errors import DefinitionError
from celery_cascade.lazy import lazy

_LINE_END = re.compile(r"\r\n|\n|\r")
_BEFORE, _AFTER = 80, 40  # columns of a long line that are shown around the caret


@dataclass(frozen=True, slots=True)
class Warning_:  # noqa: N801  -- `Warning` is Python's own
    """Something that can be run but probably does not mean what it looks like.

    Args:
        message: `file:line:column: what`.
        file: as shown.
        line: from 1.
        column: from 1.
        excerpt: the source line with a caret.
    """

    message: str
    file: str
    line: int
    column: int
    excerpt: str = ""

    def __str__(self) -> str:
        return f"{self.message}\n{self.excerpt}" if self.excerpt else self.message


@dataclass(frozen=True)
class Text:
    """The decoded text of a definition under the name that messages use.

    Args:
        name: the file's name, or `<inline>`.
        content: the text without its byte order mark.
    """

    name: str
    content: str

    @lazy
    def _line_starts(self) -> list[int]:
        return [0, *(match.end() for match in _LINE_END.finditer(self.content))]

    def place(self, offset: int) -> tuple[int, int]:
        """Line and column, both from 1, of the character at `offset`."""
        line = bisect_right(self._line_starts, offset)
        return line, offset - self._line_starts[line - 1] + 1

    def error(self, offset: int, what: str) -> DefinitionError:
        """An error at `offset`, ready to be raised."""
        line, column = self.place(offset)
        message = f"{self.name}:{line}:{column}: {what}"
        hint = "" if self.name.startswith("<") else f"Check it with: cascade validate {shlex.quote(self.name)}"
        excerpt = self._excerpt(line, column)
        return DefinitionError(message, hint=hint, file=self.name, line=line, column=column, excerpt=excerpt)

    def warning(self, offset: int, what: str) -> Warning_:
        """A warning at `offset`."""
        line, column = self.place(offset)
        message = f"{self.name}:{line}:{column}: {what}"
        return Warning_(message, self.name, line, column, self._excerpt(line, column))

    def _excerpt(self, line: int, column: int) -> str:
        start = self._line_starts[line - 1]
        ends = _LINE_END.search(self.content, start)
        content = self.content[start : ends.start() if ends else len(self.content)]
        at = column - 1
        first, last = max(0, at - _BEFORE), at + _AFTER
        before = ("…" if first else "") + content[first:at]
        after = content[at:last] + ("…" if last < len(content) else "")
        shown = printable(before + after).rstrip()
        return f"{shown}\n{_blank(before)}^" if shown else ""


def name_of(path: str | None) -> str:
    """How messages call a file: relative to the working directory if it is below, else its whole path."""
    if path is None:
        return "<inline>"
    try:
        relative = os.path.relpath(path)
    except (OSError, ValueError):  # the working directory is gone, or on another drive
        return printable(path)
    return printable(path if relative.startswith(os.pardir) else relative)


def printable(text: str) -> str:
    """Escape codes in a file must not reach a terminal."""
    return "".join(char if char.isprintable() or char == "\t" else "·" for char in text)


def _blank(text: str) -> str:
    """As wide as `text` on a terminal."""
    return "".join(_BLANKS.get(width(char), " ") if char != "\t" else "\t" for char in text)


def width(char: str) -> int:
    """Columns that a character takes on a terminal."""
    if not char.isprintable():
        return 1  # shown as a dot
    if unicodedata.category(char) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


_BLANKS = {0: "", 1: " ", 2: "  "}
