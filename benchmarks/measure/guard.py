"""What the guard costs a task that is no step."""

from __future__ import annotations

from measure import processes
from measure.options import Options
from measure.tables import Table


def measure(options: Options) -> Table:
    place = processes.Place(options.folder("guard"), "memory://")
    report = processes.run(place, "measure.guard_calls", "30" if options.quick else "400")
    rows = []
    for kind, one in report.items():
        rows.append([kind, f"{one['plain']:.0f}", f"{one['guarded']:.0f}", f"{one['difference']:.0f}"])
    return Table(
        title="The guard on a task outside any session",
        headings=["", "Celery ns/call", "with the guard ns/call", "the guard's part ns"],
        rows=rows,
        notes=[
            "one call of a no-op body through Celery's tracer, set up as in a worker's child; result ignored",
            "CPU time; medians of batches of 500 calls by turns, the difference taken within each turn",
        ],
        raw=report,
    )
