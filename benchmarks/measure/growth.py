"""Whether a late step of a long session costs more than an early one."""

from __future__ import annotations

from statistics import median
from typing import Any

from measure import processes, servers
from measure.options import Options
from measure.tables import Table, middle

APPS = {"bare": "bare Celery chain", "durable": "cascade"}


def measure(options: Options) -> Table:
    steps = 300 if options.quick else 1000
    rounds = 1 if options.quick else min(options.rounds, 3)
    found: dict[str, list[dict[str, Any]]] = {app: [] for app in APPS}
    with servers.redis_database() as broker, servers.fresh_postgresql() as store:
        place = processes.Place(options.folder("growth"), broker, store)
        processes.migrate(place)
        with processes.worker(place, "bare", "bare"), processes.worker(place, "durable", "durable") as durable:
            durable.wait_until_ready()
            for turn in range(rounds):
                for app in APPS:
                    report = processes.client(place, "growth", "--app", app, "--steps", str(steps))
                    found[app].append(_compared(report, steps))
                    options.say(f"round {turn + 1}, {APPS[app]}: {found[app][-1]['late_ms']:.1f} ms for a late step")
    return _table(found, steps, rounds)


def _windows(steps: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Fifty steps each: from the tenth, and to the last."""
    return (10, 60), (steps - 50, steps)


def _compared(report: dict[str, Any], steps: int) -> dict[str, Any]:
    ends, log = report["ends"], report["log"]
    (early, late) = _windows(steps)
    times = [1000 * (ends[last - 1] - ends[first - 1]) / (last - first) for first, last in (early, late)]
    found = {"start_ms": 1000 * report["start"], "early_ms": times[0], "late_ms": times[1]}
    if log:
        found |= {"early_bytes": _bytes_per_step(log, *early), "late_bytes": _bytes_per_step(log, *late)}
    return found


def _bytes_per_step(log: list[tuple[int, int]], first: int, last: int) -> float:
    """The log was read while the run went on, so the window is widened to the steps at which it was."""
    start = max((sample for sample in log if sample[0] <= first), default=log[0])
    end = min((sample for sample in log if sample[0] >= last), default=log[-1])
    return (end[1] - start[1]) / (end[0] - start[0])


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
            f"{rounds} rounds by turns; fifty steps each, from one step's end to the next one's, one run at a time",
            "WAL: the whole server's log; the client's own reads write none",
        ],
        raw=found,
    )
