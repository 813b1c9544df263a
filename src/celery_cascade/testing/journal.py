"""What happened in the processes of one run, written as it happens: a crash takes nothing of it along."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

#: A step's name and the number of its item.
Key = tuple[str, int]


class Entry(NamedTuple):
    """One thing that happened.

    Attributes:
        at: by the monotonic clock, which all processes of a machine share.
        process: in which one.
        what: the name of a crash point, or one of the words below.
        step, item: whose it is; None and -1 = no step's.
        detail: what else there is to say.
    """

    at: float
    process: int
    what: str
    step: str | None = None
    item: int = -1
    detail: str = ""


KEY_ASKED = "key asked"  #: a body has read its idempotency key
SENT = "sent"  #: a body has sent a message; `detail` = of which task
LINES = "lines"  #: a body has ended; `detail` = how many of its lines were run


class Journal:
    """Appends to the file of a run; each entry is one write, so threads and processes may share it."""

    def __init__(self, file: Path) -> None:
        self._file = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def note(self, what: str, step: str | None = None, item: int = -1, detail: str = "") -> None:
        """Write that it happened, now and here."""
        entry = Entry(time.monotonic(), os.getpid(), what, step, item, detail)
        os.write(self._file, json.dumps(entry).encode() + b"\n")


def read(file: Path) -> list[Entry]:
    """All that was written, in order; nothing if nothing was."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    return [Entry(*json.loads(line)) for line in lines]


def of(entries: Iterable[Entry], what: str) -> list[Entry]:
    """Those of one kind."""
    return [entry for entry in entries if entry.what == what]
