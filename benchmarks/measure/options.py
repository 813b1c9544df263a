"""What the caller asked for."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Options:
    """Of one run.

    Args:
        work: a folder that is deleted at the end.
        rounds: how often each measurement is repeated.
        quick: less of everything: the numbers are there, and not to be quoted.
    """

    work: Path
    rounds: int
    quick: bool = False
    began: float = field(default_factory=time.monotonic)

    def folder(self, name: str) -> Path:
        """A new folder of one measurement."""
        path = self.work / name
        path.mkdir()
        return path

    def say(self, words: str) -> None:
        """Progress, for people; the tables alone go to stdout."""
        print(f"{time.monotonic() - self.began:6.1f} s  {words}", file=sys.stderr, flush=True)
