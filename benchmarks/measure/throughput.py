"""A bare chain of ten no-op steps against a cascade of the same task, by turns in one run."""

from __future__ import annotations

from statistics import median
from typing import Any

from measure import processes, servers
from measure.options import Options
from measure.tables import Table, middle

STEPS = 10
PARTS = ("worker", "client", "redis", "postgresql")
CALM = 0.1
APPS = {"bare": "bare Celery chain", "durable": "cascade"}


def measure(options: Options) -> Table:
    with servers.redis_database() as broker, servers.fresh_postgresql() as store:
        place = processes.Place(options.folder("throughput"), broker, store)
        with (
            processes.worker(place, "bare", "bare") as bare,
            processes.worker(place, "durable", "durable") as durable,
        ):
            durable.wait_until_ready()
            bare.must_live()
            found = _rounds(place, {"bare": bare.pid, "durable": durable.pid}, options)
    return _table(found)


def _rounds(place: processes.Place, workers: dict[str, int], options: Options) -> dict[str, list[dict[str, Any]]]:
    sessions, alone = (50, 4) if options.quick else (200, 20)
    found: dict[str, list[dict[str, Any]]] = {app: [] for app in APPS}
    for turn in range(options.rounds):
        for app in APPS if turn % 2 == 0 else reversed(APPS):
            report = processes.client(
                place,
                *("load", "--app", app, "--steps", str(STEPS), "--sessions", str(sessions)),
                *("--alone", str(alone), "--worker", str(workers[app])),
            )
            found[app].append(_per_step(report, sessions))
            options.say(f"round {turn + 1}, {APPS[app]}: {found[app][-1]['steps_per_second']:.0f} steps/s")
    return found


def _per_step(report: dict[str, Any], sessions: int) -> dict[str, Any]:
    steps = sessions * STEPS
    cpu = {part: 1000 * report["cpu"].get(part, 0.0) / steps for part in PARTS}
    return {
        "steps_per_second": steps / report["seconds"],
        "cpu_ms": cpu,
        "cpu_ms_total": sum(cpu.values()),
        "submit_ms": 1000 * report["submitting"] / sessions,
        "alone_ms": 1000 * median(report["alone"]) / STEPS,
        "others": report["cpu"]["others"],
    }


def _calm(found: dict[str, list[dict[str, Any]]]) -> dict[str, list[dict[str, Any]]]:
    """The rounds in which nobody else was at work on the machine; all of them if there was none."""
    turns = range(len(found["bare"]))
    calm = [turn for turn in turns if max(rounds[turn]["others"] for rounds in found.values()) < CALM]
    return {app: [rounds[turn] for turn in calm or turns] for app, rounds in found.items()}


def _table(measured: dict[str, list[dict[str, Any]]]) -> Table:
    found = _calm(measured)
    counted, of = len(found["bare"]), len(measured["bare"])
    rows = []
    for app, title in APPS.items():
        rounds = found[app]
        rows.append([
            title,
            middle([one["steps_per_second"] for one in rounds], "{:.0f}"),
            _ratio(found, app, lambda one: one["steps_per_second"]),
            middle([one["cpu_ms_total"] for one in rounds]),
            _ratio(found, app, lambda one: one["cpu_ms_total"]),
            *(f"{median([one['cpu_ms'][part] for one in rounds]):.2f}" for part in PARTS),
            f"{median([one['submit_ms'] for one in rounds]):.1f}",
            f"{median([one['alone_ms'] for one in rounds]):.1f}",
            f"{100 * median([one['others'] for one in rounds]):.0f}",
        ])  # fmt: skip
    return Table(
        title=f"A chain of {STEPS} no-op steps: Celery alone, and as a cascade",
        headings=[
            *("", "steps/s", "× bare", "CPU ms/step", "× bare"),
            *(f"{part} ms" for part in PARTS),
            *("submit ms/session", "alone ms/step", "others' CPU %"),
        ],
        rows=rows,
        notes=[
            f"median (least–greatest) of {counted} of {of} rounds by turns; × bare: median of each round's ratio",
            f"a round counts if others used less than {100 * CALM:.0f} % of the machine; all do if there is none such",
            "all sessions are submitted at once; the clock runs from the first submit to the end of the last session",
            "one session at a time gives the column alone",
            "CPU: worker with children, client, Redis (whole server), PostgreSQL (own backends, WAL writer)",
            "others' CPU: what everything else on the machine used; a reason to doubt a run",
        ],
        raw=measured,
    )


def _ratio(found: dict[str, list[dict[str, Any]]], app: str, value: Any) -> str:
    pairs = zip(found[app], found["bare"], strict=True)
    return f"{median([value(one) / value(bare) for one, bare in pairs]):.2f}"
