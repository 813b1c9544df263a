"""What gives the workers something to do, and says how long it took. Run by the others: `python -m measure.client`."""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict
from typing import Any

from measure import counting, processes, servers, settings, workload
from measure.meter import Meter
from measure.wal import Log
from measure.work import LONGEST, Chains, Sessions, Work


def load(asked: argparse.Namespace) -> dict[str, Any]:
    """Many sessions at once, metered; then some one after the other."""
    work = _work(asked)
    _warm_up(work)
    trees = {"client": os.getpid(), "worker": asked.worker, "redis": servers.redis_pid()}
    sets = {"postgresql": lambda: servers.backends(_store())} if isinstance(work, Sessions) else {}
    meter = Meter(trees, sets)
    meter.start()
    began = time.time()
    submitted = [work.submit(number) for number in range(asked.sessions)]
    submitting = time.time() - began
    for one in submitted:
        work.wait(one)
    used = meter.stop()
    seconds = max(work.end(one) for one in submitted) - began
    alone = [_alone(work) for _ in range(asked.alone)]
    return {"seconds": seconds, "submitting": submitting, "cpu": used, "alone": alone}


def _work(asked: argparse.Namespace, steps: int | None = None) -> Work:
    kind = Chains if asked.app == "bare" else Sessions
    return kind(steps or asked.steps[0])


def _store() -> str:
    return os.environ["CELERY_CASCADE_DATABASE_URL"]


def _warm_up(work: Work, sessions: int = 20) -> None:
    """Every child has its connections, prepared statements and plans, and the client its own."""
    for one in [work.submit(number) for number in range(sessions)]:
        work.wait(one)


def _alone(work: Work) -> float:
    began = time.time()
    one = work.submit(0)
    work.wait(one)
    return work.end(one) - began


def counted(asked: argparse.Namespace) -> list[dict[str, Any]]:
    """Sessions of several lengths: what these processes said to their database, and what it wrote to its log."""
    found = []
    for steps in asked.steps:
        work = _work(asked, steps)
        _warm_up(work, min(20, asked.sessions))

        def run(work: Work = work) -> None:
            for one in [work.submit(number) for number in range(asked.sessions)]:
                work.wait(one)

        found.append(_counted(run, asked.pids) | {"written": [_written(run) for _ in range(asked.rounds)]})
    return found


def here(asked: argparse.Namespace) -> list[dict[str, Any]]:
    """Sessions of several lengths in this process."""
    found = []
    for steps in asked.steps:
        work = Sessions(steps)
        work.here(0)
        found.append(_counted(lambda: [work.here(n) for n in range(asked.sessions)], [os.getpid()]))  # noqa: B023
    return found


def _counted(run: Callable[[], Any], pids: list[int]) -> dict[str, Any]:
    before = counting.total(settings.folder(), pids)
    run()
    return {"counts": asdict(counting.total(settings.folder(), pids) - before)}


def _written(run: Callable[[], Any]) -> dict[str, Any]:
    with closing(Log(_store())) as log:
        first = log.position()
        run()
        return asdict(log.between(first, log.position()))


def growth(asked: argparse.Namespace) -> dict[str, Any]:
    """One long run: when each step ended, and what the first and the last of them wrote to the log."""
    work = _work(asked)
    if isinstance(work, Chains):
        return _timed(work, lambda _: {})
    work.warm_up()
    with closing(Log(_store())) as log:  # made before the run: it changes the catalog, which slows everybody down

        def watch(session: Any) -> dict[str, Any]:
            samples = _watched(work, session, log)
            return {"written": [_window(samples, log, *window) for window in asked.windows]}

        return _timed(work, watch)


def _timed(work: Work, watch: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
    began = time.time()
    one = work.submit(0)
    start = time.time() - began
    seen = watch(one)
    work.wait(one)
    return {"start": start, "ends": work.step_ends(one)} | seen


def _watched(work: Sessions, session: Any, log: Log) -> list[tuple[int, int]]:
    """(Steps done, position of the log) as the run goes on."""
    samples = [(0, log.position())]
    while not session.ready():
        samples.append((work.done(session), log.position()))
        time.sleep(0.1)
    return [*samples, (work.done(session), log.position())]


def _window(samples: list[tuple[int, int]], log: Log, first: int, last: int) -> dict[str, Any]:
    """A window of steps, widened to the moments at which the log was looked at."""
    start = max((sample for sample in samples if sample[0] <= first), default=samples[0])
    end = min((sample for sample in samples if sample[0] >= last), default=samples[-1])
    return {"steps": end[0] - start[0]} | asdict(log.between(start[1], end[1]))


def hold(asked: argparse.Namespace) -> dict[str, Any]:
    """Start a session whose first step runs until its worker is killed, and wait until it does.

    The worker `asked.not_by` consumes nothing meanwhile: the other one is to get the step.
    """
    from measure.durable import app, cascades

    place = processes.Place.here()
    others = [asked.not_by] if asked.not_by else []
    for other in others:
        app.control.cancel_consumer("durable", destination=[other], reply=True, timeout=10, limit=1)
    cascades.start(workload.hold_file(settings.folder()), {"label": asked.label})
    began = processes.wait_for(lambda: place.marks().get(f"began:{asked.label}"), "a step to begin", LONGEST)
    for other in others:
        app.control.add_consumer("durable", destination=[other], reply=True, timeout=10, limit=1)
    return {"began": began}


JOBS: dict[str, Callable[[argparse.Namespace], Any]] = {
    "load": load,
    "counted": counted,
    "here": here,
    "growth": growth,
    "hold": hold,
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("job", choices=JOBS)
    parser.add_argument("--app", choices=["bare", "durable"], default="durable")
    parser.add_argument("--steps", type=int, nargs="+", default=[10])
    parser.add_argument("--sessions", type=int, default=1)
    parser.add_argument("--alone", type=int, default=0)
    parser.add_argument("--worker", type=int, default=0)
    parser.add_argument("--pids", type=int, nargs="*", default=[])
    parser.add_argument("--rounds", type=int, default=0)
    parser.add_argument("--windows", type=json.loads, default=[])
    parser.add_argument("--label", default="")
    parser.add_argument("--not-by", default="")
    asked = parser.parse_args()
    print(json.dumps(JOBS[asked.job](asked)))


if __name__ == "__main__":
    main()
