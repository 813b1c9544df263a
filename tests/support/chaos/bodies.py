"""The log that every body writes, read as it grows."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import psutil


@dataclass(frozen=True, slots=True)
class Body:
    """One run of a step's body."""

    session: str
    step: str
    attempt: int
    pid: int
    began: float  # seconds since the epoch, by this machine's clock


@dataclass
class Bodies:
    """Everything that began, in that order, and who is in a body right now."""

    log: Path
    began: list[Body] = field(default_factory=list)
    open: dict[tuple[str, str, int, int], Body] = field(default_factory=dict)
    _offset: int = 0

    def read(self) -> None:
        """Take in what was written since."""
        if not self.log.exists():
            return
        with self.log.open("rb") as file:
            file.seek(self._offset)
            new = file.read()
        whole = new[: new.rfind(b"\n") + 1]
        self._offset += len(whole)
        for line in whole.decode().splitlines():
            moment, word, session, step, attempt, pid = line.split()
            key = (session, step, int(attempt), int(pid))
            if word == "ended":
                self.open.pop(key, None)
            else:
                body = Body(*key, began=int(moment) / 1e9)
                self.began.append(body)
                self.open[key] = body

    def busy(self) -> set[int]:
        """Processes that were in a body at the last look, and are still there."""
        return {body.pid for body in self.open.values() if psutil.pid_exists(body.pid)}
