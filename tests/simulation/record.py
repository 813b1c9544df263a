"""What was simulated, counted: for people, and for docs/reliability/simulation.json."""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from simulation.history import History

MODEL = "the engine on a model store"
REAL = "the real engine on the real store"


@dataclass
class Counts:
    """Of many histories."""

    histories: int = 0
    events: int = 0
    crashes: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    seen: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)  #: lost, stuck, repeated, wrong

    def add(self, history: History) -> None:
        self.histories += 1
        self.events += history.events
        self.crashes += history.crashes
        self.faults.update(history.faults)
        self.seen.update(history.seen)
        if history.problem is not None:
            self.kinds[history.kind] += 1

    def merge(self, other: Counts) -> None:
        self.histories += other.histories
        self.events += other.events
        self.crashes += other.crashes
        self.faults.update(other.faults)
        self.seen.update(other.seen)
        self.kinds.update(other.kinds)


def entry(counts: Counts, *, seconds: float, seed: int) -> dict[str, object]:
    return {
        "histories": counts.histories,
        "events": counts.events,
        "crashes": counts.crashes,
        "faults": sum(counts.faults.values()),
        "by_kind": dict(sorted(counts.faults.items())),
        "seen": dict(sorted(counts.seen.items())),
        "lost": counts.kinds["lost"],
        "stuck": counts.kinds["stuck"],
        "repeated": counts.kinds["repeated"],
        "wrong": counts.kinds["wrong"],
        "seconds": round(seconds),
        "seed": seed,
        "date": datetime.now(UTC).date().isoformat(),
        "commit": commit(),
    }


def write(path: Path, name: str, counts: Counts, *, seconds: float, seed: int) -> None:
    """Put the entry of one run into the file; the others stay as they are."""
    found = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    found[name] = entry(counts, seconds=seconds, seed=seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


def commit() -> str:
    """Of the checkout, with a + if it was changed since."""
    said = subprocess.run(
        ["git", "describe", "--always", "--dirty=+", "--exclude", "*"],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parent,
    )
    return said.stdout.strip() or "unknown"
