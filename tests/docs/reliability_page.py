"""The tables of docs/reliability.md, out of the last recorded runs and the crash points: `scripts/docs`."""

from __future__ import annotations

import inspect
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from celery_cascade.crash_points import CrashPoint

DOCS = Path(__file__).parents[2] / "docs"
PAGE, RECORDS = DOCS / "reliability.md", DOCS / "reliability"


def page(text: str, records: Path = RECORDS) -> str:
    """The page with its tables made anew."""
    text = _filled(text, "counts", "\n".join(_counts(records)))
    return _filled(text, "points", "\n".join(_points()))


def _filled(text: str, name: str, body: str) -> str:
    pattern = re.compile(rf"(<!-- {name}: [^\n]*-->\n).*?(<!-- /{name} -->)", flags=re.DOTALL)
    assert len(pattern.findall(text)) == 1, f"the page has no one place for {name}"
    return pattern.sub(lambda found: f"{found[1]}\n{body}\n\n{found[2]}", text)


def _counts(records: Path) -> Iterator[str]:
    yield "| what was tried | how often | lost | stuck | repeated after its checkpoint | last run, command |"
    yield "|---|---|---|---|---|---|"
    for rows in (_crashes, _simulation, _chaos):
        yield from rows(records)
    yield from _mutations(records)


def _read(records: Path, name: str) -> dict[str, Any]:
    path = records / f"{name}.json"
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return found


def _crashes(records: Path) -> Iterator[str]:
    for name, run in _read(records, "crashes").items():
        what = f"crash enumeration, {name}: {run['points']} points"
        often = f"{run['singles']:,} single, {run['pairs']:,} double crashes"
        yield _row(what, often, run, "scripts/crashes")


def _simulation(records: Path) -> Iterator[str]:
    for name, run in _read(records, "simulation").items():
        often = f"{run['histories']:,} histories, {run['crashes']:,} crashes, {run['faults']:,} faults"
        yield _row(f"simulation, {name}", often, run, "scripts/simulate")


def _chaos(records: Path) -> Iterator[str]:
    for name, run in _read(records, "chaos").items():
        faults = sum(run["faults"].values())
        often = f"{run['sessions']:,} sessions, {run['kills']:,} kills, {faults:,} faults in all"
        yield _row(f"chaos, {name}", often, run, "scripts/chaos")


def _row(what: str, often: str, run: dict[str, Any], command: str) -> str:
    losses = f"{run['lost']} | {run['stuck']} | {_repeated(run)}"
    return f"| {what} | {often} | {losses} | {run['date']}, `{command}` |"


def _repeated(run: dict[str, Any]) -> int:
    found: int = run.get("repeated", run.get("repeated_after_checkpoint"))
    return found


def _mutations(records: Path) -> Iterator[str]:
    run = _read(records, "mutations")
    if run:
        caught = f"{run['mutations']} breaks, {len(run['caught'])} caught"
        yield f"| mutations | {caught} | | | | {run['date']}, `scripts/mutate` |"


def _points() -> Iterator[str]:
    yield "| point | what is true there |"
    yield "|---|---|"
    for name, said in re.findall(r' = "(\w+)"  #: (.+)', inspect.getsource(CrashPoint)):
        yield f"| `{name}` | {said} |"


if __name__ == "__main__":
    sys.stdout.write(page(PAGE.read_text(encoding="utf-8")))
