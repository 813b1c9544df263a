"""Whether a late step of a long session costs more than an early one."""

from __future__ import annotations

import json
from itertools import pairwise
from statistics import median
from typing import Any

from measure import processes, servers
from measure.options import Options
from measure.tables import Table, middle

APPS = {"bare": "bare Celery chain", "durable": "cascade"}
WINDOW = 50  #: steps: from the tenth, and to the last


def measure(options: Options) -> Table:
    steps = 200 if options.quick else 1000
    rounds = 1 if options.quick else min(options.rounds, 3)
    found: dict[str, list[dict[str, Any]]] = {app: [] for app in APPS}
    with servers.redis_database() as broker, servers.fresh_postgresql() as store:
        place = processes.Place(options.folder("growth"), broker, store)
        with processes.worker(place, "bare", "bare"), processes.worker(place, "durable", "durable") as durable:
            durable.wait_until_ready()
            for turn in range(rounds):
                for app in APPS:
                    found[app].append(_run(place, app, steps))
                    options.say(f"round {turn + 1}, {APPS[app]}: {found[app][-1]['late_ms']:.1f} ms for a late step")
    return _table(found, steps, rounds)


def _run(place: processes.Place, app: str, steps: int) -> dict[str, Any]:
    windows = [(10, 10 + WINDOW), (steps - WINDOW, steps)]
    report = processes.client(
        place, "growth", "--app", app, "--steps", str(steps), "--windows", json.dumps(windows)
    )  # fmt: skip
    ends = report["ends"]
    times = [1000 * (after - before) for before, after in pairwise(ends)]
    early, late = (median(times[first - 1 : last - 1]) for first, last in windows)
    found = {"start_ms": 1000 * report["start"], "early_ms": early, "late_ms": late}
    if "written" in report:
        early, late = (one["bytes"] / one["steps"] for one in report["written"])
        found |= {"early_bytes": early, "late_bytes": late, "written": report["written"]}
    return found


def _table(found: dict[str, list[dict[str, Any]]], steps: int, rounds: int) -> Table:
    rows = []
    for app, title in APPS.items():
        of = {key: [one[key] for one in found[app]] for key in found[app][0]}
        rows.append([
            title,
            middle(of["start_ms"], "{:.0f}"),
            middle(of["early_ms"], "{:.1f}"),
            middle(of["late_ms"], "{:.1f}"),
            f"{median([late / early for late, early in zip(of['late_ms'], of['early_ms'], strict=True)]):.2f}",
            middle(of["early_bytes"], "{:.0f}") if "early_bytes" in of else "–",
            middle(of["late_bytes"], "{:.0f}") if "late_bytes" in of else "–",
        ])  # fmt: skip
    return Table(
        title=f"Step 10 against step {steps:,} of one run",
        headings=[
            *("", "submit ms", "ms/step from step 10", f"ms/step to step {steps:,}", "late ÷ early"),
            *("WAL bytes/step from step 10", f"WAL bytes/step to step {steps:,}"),
        ],
        rows=rows,
        notes=[
            f"{rounds} rounds by turns; median of {WINDOW} steps, from one's end to the next one's, one run at a time",
            "WAL: PostgreSQL's log without full-page images, of this database alone where pg_walinspect is there",
        ],
        raw=found,
    )
