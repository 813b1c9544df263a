"""What a step costs the database: statements, commits, bytes of PostgreSQL's log."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from measure import counting, processes, servers
from measure.counting import Counts
from measure.options import Options
from measure.tables import Table, middle

SHORT, LONG = 10, 50
STORES = ("PostgreSQL", "MariaDB", "SQLite")


def measure(options: Options) -> Table:
    found = []
    with servers.redis_database() as broker:
        for store in STORES:
            if store == "SQLite" or servers.is_there(store):
                found += _of_store(store, broker, options)
    return _table(found, options)


def _of_store(store: str, broker: str, options: Options) -> list[dict[str, Any]]:
    folder = options.folder(f"statements-{store}")
    with _fresh(store, str(folder)) as url:
        place = processes.Place(folder, broker, url, count=True)
        processes.migrate(place)
        here = {"where": "here (run_cascade)", "store": store, "log": []} | _here(place, options)
        with processes.worker(place, "durable", "durable") as worker:
            worker.wait_until_ready()
            there = {"where": "in a worker", "store": store} | _in_worker(place, worker, url, options)
    options.say(f"{store}: {there['further'].statements:.1f} statements for a further step")
    return [there, here]


@contextmanager
def _fresh(store: str, folder: str) -> Iterator[str]:
    if store == "SQLite":
        yield f"sqlite:///{folder}/store.sqlite"
        return
    with servers.fresh_postgresql() if store == "PostgreSQL" else servers.fresh_mariadb() as url:
        yield url


def _in_worker(place: processes.Place, worker: processes.Worker, url: str, options: Options) -> dict[str, Any]:
    """The pool's children alone are counted: the main process beats and sweeps, whatever there is to do."""
    sessions, rounds = (10, 1) if options.quick else (50, options.rounds)
    children = worker.child_pids()
    _load(place, worker, SHORT, 1)  # a first step is answered by new connections
    rows: dict[int, Counts] = {}
    log, others = [], []
    for steps in (SHORT, LONG):
        before = _sum(place, children)
        _load(place, worker, steps, sessions)
        rows[steps] = _sum(place, children) - before
    for _ in range(rounds if url.startswith("postgresql") else 0):
        at, elsewhere = servers.wal_position(), servers.commits(url)[1]
        _load(place, worker, SHORT, sessions)
        log.append((servers.wal_position() - at) / ((sessions + WARM) * SHORT))
        others.append(servers.commits(url)[1] - elsewhere)
    return _reduced(rows, sessions + WARM) | {"log": log, "others": others}


WARM = 20  #: sessions that a client runs before it measures; counted here


def _load(place: processes.Place, worker: processes.Worker, steps: int, sessions: int) -> None:
    processes.client(place, "load", "--steps", str(steps), "--sessions", str(sessions), "--worker", str(worker.pid))


def _sum(place: processes.Place, pids: list[int]) -> Counts:
    found = counting.read(place.folder)
    return sum((found[pid] for pid in pids if pid in found), Counts())


def _here(place: processes.Place, options: Options) -> dict[str, Any]:
    sessions = 2 if options.quick else 10
    rows = {}
    for steps in (SHORT, LONG):
        report = processes.client(place, "here", "--steps", str(steps), "--sessions", str(sessions))
        rows[steps] = Counts(**report["counts"])
    return _reduced(rows, sessions)


def _reduced(rows: dict[int, Counts], sessions: int) -> dict[str, Any]:
    """A whole session of ten steps; and each further step, the difference between a long and a short session."""
    return {
        "session": rows[SHORT] / sessions,
        "further": (rows[LONG] - rows[SHORT]) / (sessions * (LONG - SHORT)),
    }


def _table(found: list[dict[str, Any]], options: Options) -> Table:
    rows = []
    for one in found:
        session, further = one["session"], one["further"]
        rows.append([
            f"{one['store']}, {one['where']}",
            f"{further.statements:.2f}", f"{further.reads:.2f}", f"{further.commits:.2f}",
            f"{further.round_trips:.2f}",
            f"{session.statements / SHORT:.2f}", f"{session.commits / SHORT:.2f}",
            middle(one["log"], "{:.0f}") if one["log"] else "–",
        ])  # fmt: skip
    disturbed = [n for one in found for n in one.get("others", [])]
    notes = [
        f"further step: a session of {LONG} steps less one of {SHORT}, for each step between",
        "in a worker: claim, checkpoint, and the session's end, as the pool's children say them (prefork -c 2); the main",
        "  process beats and sweeps besides, whatever there is to do; the client's start is not in it",
        "here: one process starts the session, looks for what is ready before each step, and runs it",
        "counted by SQLAlchemy's events; BEGIN and COMMIT are round trips, no statements; a writing statement outside",
        "  a transaction is a commit by itself",
        f"WAL: the log of the whole PostgreSQL server, sessions of {SHORT} steps with start and end, full-page images too",
    ]
    if disturbed and max(disturbed) > 0:
        notes.append(f"other databases of the server committed up to {max(disturbed)} times in a round of that")
    return Table(
        title="What a step costs the database",
        headings=[
            *("", "statements/further step", "of them reads", "commits/further step", "round trips/further step"),
            *(f"statements/step of {SHORT}", f"commits/step of {SHORT}", "WAL bytes/step"),
        ],
        rows=rows,
        notes=notes,
        raw=[{key: vars(value) if isinstance(value, Counts) else value for key, value in one.items()} for one in found],
    )
