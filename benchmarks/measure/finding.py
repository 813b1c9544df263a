"""What lists, trees, forks and diffs cost among a million sessions, and among ten thousand: the same, or an index is
missing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from statistics import median
from typing import Any

from celery import Celery

from celery_cascade import Cascades
from measure import many, servers
from measure.options import Options
from measure.questions import questions
from measure.tables import Table

FEW = 10_000


def measure(options: Options) -> Table:
    sizes = (FEW, 100_000 if options.quick else 1_000_000)
    found: dict[str, dict[str, list[list[float]]]] = {}
    for kind, make in _STORES.items():
        if kind == "MariaDB" and not servers.is_there("MariaDB"):
            continue
        with ExitStack() as stack:
            stores = []
            for size in sizes:
                stores.append(stack.enter_context(_filled(make, options, size)))
                options.say(f"{kind}: {size:,} sessions are there")
            found[kind] = _ask(stores, sizes, options.rounds)
        options.say(f"{kind}: asked")
    return _table(found, sizes, options.rounds)


def _ask(stores: list[Cascades], sizes: tuple[int, ...], rounds: int) -> dict[str, list[list[float]]]:
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
        title=f"A page of 50, a tree, a diff, a fork among {sizes[1]:,} sessions, against the same among {sizes[0]:,}",
        headings=["", *(heading for kind in kinds for heading in (f"{kind} ms", "÷"))],
        rows=rows,
        notes=[
            f"median of {rounds} rounds by turns, after one that fills the caches; ÷: against the small store",
            "where a filter finds a share of all sessions, the small store may have less than a page of them",
            "families have ten sessions; a fork keeps one step of two, and sends the other to a broker in memory",
        ],
        raw=found,
    )


@contextmanager
def _filled(make: Callable[..., Any], options: Options, size: int) -> Iterator[Cascades]:
    with make(options, size) as url:
        many.fill(url, size).dispose()
        app = Celery("bench", broker="memory://", set_as_current=False, cascade_database_url=url)
        cascades = Cascades(app)
        for name in ("shop.charge", "shop.ship"):
            app.task(name=name)(_nothing)
        try:
            yield cascades
        finally:
            cascades.runtime.store.database.dispose()


def _nothing(*_: Any) -> None:
    """A step that nobody runs."""


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
