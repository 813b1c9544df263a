"""What the crash points cost where nobody has armed them: in production."""

from __future__ import annotations

import time
from statistics import median

from celery import Celery

from celery_cascade import Cascades
from celery_cascade.crash_points import CrashPoint, reached
from celery_cascade.testing.points import Visit, recording
from measure.options import Options
from measure.tables import Table

STEPS, CALLS = 50, 100_000


class Key:
    """What a point is told of."""

    step = "a"


def measure(options: Options) -> Table:
    rounds = 5 if options.quick else 15
    nanoseconds = median(_one_point() for _ in range(rounds))
    app = Celery("points", broker="memory://", set_as_current=False)
    app.conf.update(cascade_database_url=f"sqlite:///{options.folder('points') / 'store.sqlite'}")
    app.conf.cascade_auto_migrate = True
    cascades = Cascades(app)

    @app.task(name="noop", shared=False)
    def noop() -> None:
        """No work: what remains is ours."""

    cascade = {"cascade": "points", "steps": [{"id": f"s{number}", "task": "noop"} for number in range(STEPS)]}
    seen: list[Visit] = []
    with recording(seen.append):
        cascades.run(cascade)
    per_step = len(seen) / STEPS
    times = []
    for _ in range(rounds):
        began = time.process_time_ns()
        cascades.run(cascade)
        times.append((time.process_time_ns() - began) / STEPS)
    step = median(times)
    share = per_step * nanoseconds / step
    return Table(
        title="Crash points that nobody has armed",
        headings=["", ""],
        rows=[
            ["one point", f"{nanoseconds:.0f} ns"],
            ["points that a step passes", f"{per_step:.1f}"],
            ["of the CPU of a step here and now on SQLite, without a broker", f"{100 * share:.3f} %"],
        ],
        notes=[f"CPU time; medians of {rounds}; a step here costs {step / 1000:.0f} µs, the cheapest way to run one"],
        raw={"nanoseconds": nanoseconds, "points": per_step, "step": step, "share": share},
    )


def _one_point() -> float:
    key = Key()
    began = time.process_time_ns()
    for _ in range(CALLS):
        reached(CrashPoint.CHECKPOINTED, key)
    whole = time.process_time_ns() - began
    began = time.process_time_ns()
    for _ in range(CALLS):
        pass
    return (whole - (time.process_time_ns() - began)) / CALLS
