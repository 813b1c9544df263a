"""What lists cost among a million sessions, and what they cost among ten thousand: the same, or an index is missing."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from statistics import median
from typing import Any

from celery_cascade.persistence.database import Database
from celery_cascade.persistence.finding import SessionFilter
from celery_cascade.persistence.store import Store
from measure import many, servers
from measure.options import Options
from measure.tables import Table

FEW = 10_000
COUNTED = 10_000
ROOT = many.id_of(4_000)


def questions(count: int) -> dict[str, Callable[[Store], Any]]:
    """What is asked of a store with so many sessions."""
    middle = (many.moment_of(count // 2), many.id_of(count // 2))
    begin, end = many.moment_of(count // 2), many.moment_of(count // 2) + timedelta(hours=1)
    of_head = (many.moment_of(count // 2), f"h{count // 2}")
    filters = {
        "newest": SessionFilter(),
        "a page in the middle": SessionFilter(before=middle),
        "cascade, half of all": SessionFilter(cascade="order"),
        "cascade, in the middle": SessionFilter(cascade="order", before=middle),
        "cascade, one in a hundred": SessionFilter(cascade="cascade-7"),
        "completed": SessionFilter(status=["completed"]),
        "completed, in the middle": SessionFilter(status=["completed"], before=of_head),
        "failed": SessionFilter(status=["failed"]),
        "suspended, all of them old": SessionFilter(status=["suspended"]),
        "failed or suspended": SessionFilter(status=["failed", "suspended"]),
        "failed of a cascade": SessionFilter(status=["failed"], cascade="cascade-3"),
        "at a step": SessionFilter(step="ship"),
        "tag, one in ten": SessionFilter(tags=["nightly"]),
        "two tags": SessionFilter(tags=["day-20", "nightly"]),
        "resource": SessionFilter(resource_id="r7"),
        "thread": SessionFilter(thread_id="t7"),
        "tree": SessionFilter(root=ROOT),
        "forks of a session": SessionFilter(forked_from=many.id_of(4_049)),
        "an hour in the middle": SessionFilter(since=begin, until=end),
        "failed before the middle": SessionFilter(status=["failed"], until=begin),
        "mode, nearly all": SessionFilter(mode="cascade"),
        "mode, one in a thousand": SessionFilter(mode="audit"),
        "set of files, one in a hundred": SessionFilter(execution_key="k7"),
        "id by its first 6 letters": SessionFilter(prefix=many.id_of(count // 3)[:6]),
        "input text, in all of them": SessionFilter(inputs=[["customer"]]),
        "input text, in one of 5,000": SessionFilter(inputs=[['"customer":"ann77"']]),
        "input text, of one resource": SessionFilter(inputs=[["ann77"]], resource_id="r77"),
        "error text": SessionFilter(error="no stock of 33"),
    }
    asked: dict[str, Callable[[Store], Any]] = {
        name: (lambda store, wanted=wanted: store.sessions(wanted)) for name, wanted in filters.items()
    }
    for name in ("newest", "failed", "cascade, half of all"):
        wanted = filters[name]
        asked[f"count to 10,000: {name}"] = lambda store, wanted=wanted: store.count(wanted, COUNTED)
    return asked


def measure(options: Options) -> Table:
    sizes = (FEW, 100_000 if options.quick else 1_000_000)
    found: dict[str, dict[str, list[list[float]]]] = {}
    for kind, make in _STORES.items():
        if kind == "MariaDB" and not servers.is_there("MariaDB"):
            continue
        with ExitStack() as stack:
            stores = []
            for size in sizes:
                database = stack.enter_context(_filled(make, options, size))
                stores.append(Store(database))
                options.say(f"{kind}: {size:,} sessions are there")
            found[kind] = _ask(stores, sizes, options.rounds)
        options.say(f"{kind}: asked")
    return _table(found, sizes, options.rounds)


def _ask(stores: list[Store], sizes: tuple[int, ...], rounds: int) -> dict[str, list[list[float]]]:
    """Question -> milliseconds of each round, for each store, by turns."""
    asked = [questions(size) for size in sizes]
    times: dict[str, list[list[float]]] = {name: [[] for _ in stores] for name in asked[0]}
    for turn in range(rounds + 1):  # the first one fills the caches
        for name, taken in times.items():
            for number, store in enumerate(stores):
                began = time.perf_counter()
                asked[number][name](store)
                if turn:
                    taken[number].append(1000 * (time.perf_counter() - began))
    return times


def _table(found: dict[str, dict[str, list[list[float]]]], sizes: tuple[int, ...], rounds: int) -> Table:
    kinds = list(found)
    rows = []
    for name in found[kinds[0]]:
        row = [name]
        for kind in kinds:
            few, much = (median(times) for times in found[kind][name])
            row += [f"{much:.1f}", f"{much / few:.1f}"]
        rows.append(row)
    return Table(
        title=f"A page of 50 among {sizes[1]:,} sessions, against the same among {sizes[0]:,}",
        headings=["", *(heading for kind in kinds for heading in (f"{kind} ms", "÷"))],
        rows=rows,
        notes=[
            f"median of {rounds} rounds by turns, after one that fills the caches; ÷: against the small store",
            "where a filter finds a share of all sessions, the small store may have less than a page of them",
        ],
        raw=found,
    )


@contextmanager
def _filled(make: Callable[..., Any], options: Options, size: int) -> Iterator[Database]:
    with make(options, size) as url:
        database = many.fill(url, size)
        try:
            yield database
        finally:
            database.dispose()


@contextmanager
def _sqlite(options: Options, size: int) -> Iterator[str]:
    yield f"sqlite:///{options.folder(f'finding-{size}') / 'store.sqlite'}"


@contextmanager
def _postgresql(options: Options, size: int) -> Iterator[str]:
    with servers.fresh_postgresql() as url:
        yield url


@contextmanager
def _mariadb(options: Options, size: int) -> Iterator[str]:
    with servers.fresh_mariadb() as url:
        yield url


_STORES = {"SQLite": _sqlite, "PostgreSQL": _postgresql, "MariaDB": _mariadb}
