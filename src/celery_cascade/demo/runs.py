"""What the shop's own files say about what was really done: the witness beside the database."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One time that a task's code was entered."""

    step: str
    attempt: int
    pid: int
    moment: datetime


def runs_of(folder: Path, session_id: str) -> list[Run]:
    """Every run of a session's steps, oldest first."""
    return [
        Run(
            step=row["step"],
            attempt=int(row["attempt"]),
            pid=int(row["pid"]),
            moment=datetime.fromisoformat(row["moment"]),
        )
        for row in read(folder / "runs.csv")
        if row["session"] == session_id
    ]


def picked(folder: Path, order_id: int) -> list[tuple[str, int]]:
    """The articles that were taken off their shelves, each with the process that did it."""
    return [(row["article"], int(row["pid"])) for row in read(folder / "orders" / str(order_id) / "picking.csv")]


def charges(folder: Path, order_id: int) -> list[str]:
    """The keys under which the card was charged for an order."""
    return [row["key"] for row in read(folder / "ledger.csv") if row["order"] == str(order_id)]


def read(path: Path) -> list[dict[str, str]]:
    """The whole lines of a file; none if it is not there. A line that is being written is left for the next look."""
    if not path.exists():
        return []
    text = path.read_text(encoding="utf-8")
    whole = text[: text.rfind("\n") + 1]
    return list(csv.DictReader(whole.splitlines()))
