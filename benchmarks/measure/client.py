"""What gives the workers something to do, and says how long it took. Run by the others: `python -m measure.client`."""

from __future__ import annotations

import argparse
import json
import os
import time
from dataclasses import asdict
from datetime import UTC
from typing import Any

from measure import counting, servers, settings, workload
from measure.meter import Meter


class Chains:
    """Bare Celery."""

    def __init__(self, steps: int) -> None:
        from measure import bare

        self._steps, self._submit = steps, bare.submit

    def submit(self, number: int) -> Any:
        return self._submit(number, self._steps)

    def wait(self, result: Any) -> None:
        assert result.get(timeout=300)["n"] == self._steps

    def ends(self, results: list[Any]) -> list[float]:
        """When each was done, by the worker's clock."""
        return [_epoch(result.date_done) for result in results]

    def step_ends(self, result: Any) -> list[float]:
        found = []
        while result is not None:
            found.append(_epoch(result.date_done))
            result = result.parent
        return found[::-1]


class Sessions:
    """The same work as sessions of a cascade."""

    def __init__(self, steps: int) -> None:
        from measure.durable import cascades

        self._steps, self.cascades = steps, cascades
        self._file = workload.cascade_file(settings.folder(), steps)

    def submit(self, number: int) -> Any:
        return self.cascades.start(self._file, {"given": workload.payload(number)})

    def wait(self, session: Any) -> None:
        assert session.result(timeout=300)["n"] == self._steps

    def here(self, number: int) -> None:
        """Run one in this process."""
        self.wait(self.cascades.run(self._file, {"given": workload.payload(number)}))

    def ends(self, sessions: list[Any]) -> list[float]:
        """When each was done, by the database's clock."""
        store = self.cascades.runtime.store
        return [_epoch(store.head(session.id)["finished_at"]) for session in sessions]

    def step_ends(self, session: Any) -> list[float]:
        rows = self.cascades.runtime.store.steps(session.id)
        return sorted(_epoch(row["finished_at"]) for row in rows)


def _epoch(moment: Any) -> float:
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def load(work: Chains | Sessions, sessions: int, alone: int, worker: int) -> dict[str, Any]:
    """Many at once, metered; then some one after the other."""
    _warm_up(work)
    trees = {"client": os.getpid(), "worker": worker, "redis": servers.redis_pid()}
    sets = {}
    if isinstance(work, Sessions):
        store = os.environ["CELERY_CASCADE_DATABASE_URL"]
        sets["postgresql"] = lambda: servers.backends(store)
    meter = Meter(trees, sets)
    meter.start()
    began = time.time()
    submitted = [work.submit(number) for number in range(sessions)]
    submitting = time.time() - began
    for one in submitted:
        work.wait(one)
    used = meter.stop()
    seconds = max(work.ends(submitted)) - began
    lone = []
    for number in range(alone):
        began = time.time()
        one = work.submit(number)
        work.wait(one)
        lone.append(work.ends([one])[0] - began)
    return {"seconds": seconds, "submitting": submitting, "cpu": used, "alone": lone}


def _warm_up(work: Chains | Sessions, sessions: int = 20) -> None:
    """Every child has its connections, prepared statements and plans, and the client its own."""
    for one in [work.submit(number) for number in range(sessions)]:
        work.wait(one)


def growth(work: Chains | Sessions) -> dict[str, Any]:
    """One long run: when each step ended, and the server's log as the run went on."""
    began = time.time()
    one = work.submit(0)
    started = time.time() - began
    log = []
    if isinstance(work, Sessions):
        while not one.ready():
            done = work.cascades.runtime.store.head(one.id)["current_step"]
            log.append((done, servers.wal_position()))
            time.sleep(0.05)
    work.wait(one)
    return {"start": started, "ends": work.step_ends(one), "log": log}


def here(work: Sessions, sessions: int) -> dict[str, Any]:
    """Run sessions in this process; what it said to its database."""
    work.here(0)
    before = counting.read(settings.folder())[os.getpid()]
    for number in range(sessions):
        work.here(number)
    return {"counts": asdict(counting.read(settings.folder())[os.getpid()] - before)}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["migrate", "load", "growth", "here", "hold", "listen", "deafen"])
    parser.add_argument("--app", choices=["bare", "durable"], default="durable")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--sessions", type=int, default=1)
    parser.add_argument("--alone", type=int, default=0)
    parser.add_argument("--worker", type=int, default=0)
    parser.add_argument("--label", default="")
    asked = parser.parse_args()
    print(json.dumps(_answer(asked)))


def _answer(asked: argparse.Namespace) -> dict[str, Any]:
    if asked.what == "migrate":
        from celery_cascade.persistence import migrate
        from measure.durable import cascades

        return {"done": migrate.upgrade(cascades.runtime.open_database())}
    if asked.what == "hold":
        from measure.durable import cascades

        return {"id": cascades.start(workload.hold_file(settings.folder()), {"label": asked.label}).id}
    if asked.what in ("listen", "deafen"):
        from measure.durable import app

        change = app.control.add_consumer if asked.what == "listen" else app.control.cancel_consumer
        return {"replies": change("durable", destination=[asked.label], reply=True, timeout=5, limit=1)}
    work = Chains(asked.steps) if asked.app == "bare" else Sessions(asked.steps)
    if asked.what == "load":
        return load(work, asked.sessions, asked.alone, asked.worker)
    if asked.what == "growth":
        return growth(work)
    assert isinstance(work, Sessions)
    return here(work, asked.sessions)


if __name__ == "__main__":
    main()
