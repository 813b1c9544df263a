"""Single keys of a terminal, read without Enter; the terminal is put back as it was, whatever happens."""

from __future__ import annotations

import os
import re
import select
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NoReturn

try:
    import termios
    import tty
except ModuleNotFoundError:  # Windows: nothing there reads single keys
    termios = None  # type: ignore[assignment]

FORWARD, BACK, FIRST, LAST, QUIT = "forward", "back", "first", "last", "quit"
_KEYS = {
    b" ": FORWARD, b"l": FORWARD, b"\r": FORWARD, b"\n": FORWARD, b"\x1b[C": FORWARD, b"\x1bOC": FORWARD,
    b"h": BACK, b"\x7f": BACK, b"\x1b[D": BACK, b"\x1bOD": BACK,
    b"g": FIRST, b"\x1b[H": FIRST, b"\x1bOH": FIRST, b"\x1b[1~": FIRST,
    b"G": LAST, b"\x1b[F": LAST, b"\x1bOF": LAST, b"\x1b[4~": LAST,
    b"q": QUIT, b"Q": QUIT, b"\x1b": QUIT, b"\x03": QUIT, b"\x04": QUIT,
}  # fmt: skip
_SEQUENCE = re.compile(rb"\x1b(?:\[[0-9;]*[A-Za-z~]|O[A-Za-z])")
_BEGUN = re.compile(rb"\x1b(?:\[[0-9;]*|O)?")
#: Seconds that a terminal may take between the bytes of one key.
_REST = 0.05


def meaning(typed: bytes) -> str | None:
    """What a key asks for; None = nothing."""
    return _KEYS.get(typed)


def possible() -> bool:
    """Whether there is a person at a terminal who can press keys."""
    there = termios is not None and sys.stdin.isatty() and sys.stdout.isatty()
    return there and os.environ.get("TERM") != "dumb"


class Keys:
    """The keys of one terminal.

    Args:
        file: its file descriptor.
    """

    def __init__(self, file: int) -> None:
        self._file = file
        self._typed = b""

    def read(self, timeout: float | None = None) -> str | None:
        """The next key's meaning; None if it has none, or (`timeout`) none was pressed. At the end of input: quit."""
        if not self._typed and not self._more(timeout):
            return None
        if not self._typed:
            return QUIT
        return meaning(self._next())

    def _more(self, timeout: float | None) -> bool:
        if not select.select([self._file], [], [], timeout)[0]:
            return False
        try:
            typed = os.read(self._file, 64)
        except OSError:  # the terminal is gone
            typed = b""
        self._typed += typed
        return bool(typed) or not self._typed

    def _next(self) -> bytes:
        """The first key of what was typed: one byte, or an escape sequence."""
        while _BEGUN.fullmatch(self._typed) and self._more(_REST):
            pass
        sequence = _SEQUENCE.match(self._typed)
        return self._take(sequence.end() if sequence else 1)

    def _take(self, length: int) -> bytes:
        key, self._typed = self._typed[:length], self._typed[length:]
        return key


@contextmanager
def keys() -> Iterator[Keys]:
    """Read single keys inside; afterwards the terminal is as it was."""
    file = sys.stdin.fileno()
    before = termios.tcgetattr(file)
    handler = signal.signal(signal.SIGTERM, _ended)  # by itself it would leave the terminal as it is
    try:
        tty.setcbreak(file)
        yield Keys(file)
    finally:
        with suppress(termios.error):  # the terminal was closed
            termios.tcsetattr(file, termios.TCSADRAIN, before)
        signal.signal(signal.SIGTERM, handler)


def _ended(number: int, _: object) -> NoReturn:
    raise SystemExit(128 + number)
