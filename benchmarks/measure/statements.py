"""What a step costs the database: statements, commits, bytes of PostgreSQL's log."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from measure import processes, servers
from measure.counting import Counts
from measure.options import Options
from measure.tables import Table, middle

SHORT, LONG = 10, 50
LENGTHS = ("--steps", str(SHORT), str(LONG))
STORES = ("PostgreSQL", "MariaDB", "SQLite")


def measure(options: Options) -> Table:
    found = []
    with servers.redis_database() as broker:
        for store in STORES:
            if store == "SQLite" or servers.is_there(store):
                found += _of_store(store, broker, options)
    return _table(found)


def _of_store(store: str, broker: str, options: Options) -> list[dict[str, Any]]:
    folder = options.folder(f"statements-{store}")
    with _fresh(store, str(folder)) as url:
        place = processes.Place(folder, broker, url, count=True)
        with processes.worker(place, "durable", "durable") as worker:
            worker.wait_until_ready()
            there = _in_worker(place, worker, options, rounds=_rounds(store, options))
        here = _here(place, options)
    options.say(f"{store}: {there['further'].statements:.1f} statements for a further step")
    return [{"name": f"{store}, in a worker"} | there, {"name": f"{store}, run_cascade"} | here]


def _rounds(store: str, options: Options) -> int:
    """Of what the log is read for; counts are the same each time."""
    if store != "PostgreSQL":
        return 0
    return 1 if options.quick else options.rounds


@contextmanager
def _fresh(store: str, folder: str) -> Iterator[str]:
    if store == "SQLite":
        yield f"sqlite:///{folder}/store.sqlite"
        return
    with servers.fresh_postgresql() if store == "PostgreSQL" else servers.fresh_mariadb() as url:
        yield url


def _in_worker(place: processes.Place, worker: processes.Worker, options: Options, *, rounds: int) -> dict[str, Any]:
    """The pool's children alone are counted: the main process beats and sweeps, whatever there is to do."""
    sessions = 4 if options.quick else 20
    pids = [str(pid) for pid in worker.child_pids()]
    arguments = ["--sessions", str(sessions), "--rounds", str(rounds), "--pids", *pids]
    short, long = processes.client(place, "counted", *LENGTHS, *arguments)
    found = _reduced(short, long, sessions)
    for what in ("bytes", "images"):
        found[what] = [
            (over[what] - under[what]) / (sessions * (LONG - SHORT))
            for over, under in zip(long["written"], short["written"], strict=True)
        ]
        found[f"{what}_short"] = [one[what] / (sessions * SHORT) for one in short["written"]]
    return found | {"exact": all(one["exact"] for one in short["written"])}


def _here(place: processes.Place, options: Options) -> dict[str, Any]:
    sessions = 2 if options.quick else 10
    short, long = processes.client(place, "here", *LENGTHS, "--sessions", str(sessions))
    return _reduced(short, long, sessions) | {"bytes": [], "bytes_short": []}


def _reduced(short: dict[str, Any], long: dict[str, Any], sessions: int) -> dict[str, Any]:
    """A whole short session; and each further step, the difference between a long and a short one."""
    under, over = Counts(**short["counts"]), Counts(**long["counts"])
    return {"session": under / sessions, "further": (over - under) / (sessions * (LONG - SHORT))}


def _table(found: list[dict[str, Any]]) -> Table:
    rows = []
    for one in found:
        session, further = one["session"], one["further"]
        rows.append([
            one["name"],
            *(f"{number:.2f}" for number in (further.statements, further.reads, further.commits, further.round_trips)),
            f"{session.statements / SHORT:.2f}", f"{session.commits / SHORT:.2f}",
            middle(one["bytes"], "{:.0f}") if one["bytes"] else "–",
            middle(one["bytes_short"], "{:.0f}") if one["bytes_short"] else "–",
        ])  # fmt: skip
    exact = all(one.get("exact", True) for one in found)
    return Table(
        title="What a step costs the database",
        headings=[
            *("", "statements per further step", "of them reads", "commits", "round trips"),
            *(
                f"statements per step of {SHORT}",
                "commits",
                "WAL bytes per further step",
                f"WAL bytes per step of {SHORT}",
            ),
        ],
        rows=rows,
        notes=[
            f"further step: a session of {LONG} steps less one of {SHORT}, for each step between",
            f"step of {SHORT}: a whole session of {SHORT}, its end included and, with run_cascade, its start",
            "in a worker: what the pool's children say (prefork -c 2); its main process beats and sweeps besides",
            "run_cascade: one process, which looks for what is ready before each step",
            "counted by SQLAlchemy's events, BEGIN and COMMIT as round trips, not as statements; a writing statement",
            "  outside a transaction is a commit by itself",
            "WAL without full-page images, "
            + ("of this database alone (pg_walinspect)" if exact else "of the whole server, whoever uses it"),
        ],
        raw=[{key: vars(value) if isinstance(value, Counts) else value for key, value in one.items()} for one in found],
    )
