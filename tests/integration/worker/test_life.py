"""A worker from start to goodbye."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable

import pytest
import sqlalchemy as sa

from celery_cascade.persistence.tables import workers
from support.cases import QUICK, until
from support.cluster import Project, Stack, wait_for

pytestmark = pytest.mark.integration

BANNER = r"\[cascade\] \S+ schema \d{4}, 0 open sessions, 0 resumed"
HOLD = "cascade: c\nsteps:\n  - {id: a, task: proj.hold, with: [1]}\n  - {id: b, task: proj.work, with: [2]}\n"


def rows(shop: Project) -> list[sa.Row]:
    with shop.database.read() as connection:
        return list(connection.execute(sa.select(workers)).all())


def test_its_row_its_banner_and_its_goodbye(project: Callable[..., Project], stack: Stack) -> None:
    """R158: the banner names the store without its password."""
    shop = project()
    if stack.database_url is not None and stack.database_url.startswith("postgresql"):
        # A password that the server does not ask for; MariaDB refuses one that is not the user's.
        module = shop.folder / "proj.py"
        bare = sa.make_url(stack.database_url)
        given = bare.set(password="s3cret").render_as_string(hide_password=False)
        module.write_text(module.read_text().replace(stack.database_url, given))
        assert "s3cret" in module.read_text()
    worker = shop.worker("-P", "prefork", "-c", "3")
    wait_for(lambda: re.search(BANNER, worker.logs()), "the banner", 5)
    assert "s3cret" not in worker.logs()
    (row,) = rows(shop)
    assert (row.pool, row.capacity, row.pid) == ("prefork", 6, worker.container.pid)
    assert "proj.work" in json.loads(row.tasks)
    assert row.stopped_at is None
    worker.kill("SIGTERM")
    worker.container.process.wait(20)
    (row,) = rows(shop)
    assert row.stopped_at is not None


@pytest.mark.parametrize("pool", ["prefork", "solo", "threads"])
def test_a_cold_shutdown_says_goodbye_too(project: Callable[..., Project], pool: str) -> None:
    """Celery sends no `worker_shutdown` then."""
    shop = project()
    worker = shop.worker("-P", pool, "-c", "1")
    wait_for(lambda: "open sessions" in worker.logs(), "the banner", 10)
    worker.kill("SIGQUIT")
    worker.container.process.wait(20)
    (row,) = rows(shop)
    assert row.stopped_at is not None
    (told,) = [line for line in worker.logs().splitlines() if "open sessions" in line]  # once, R158
    assert re.search(BANNER, told)
    assert "INFO/MainProcess]" in told
    assert json.loads(row.queues) == ["celery"]


def test_spawned_children_know_whose_they_are(project: Callable[..., Project]) -> None:
    shop = project(worker_pool_start_method="spawn", **QUICK)
    worker = shop.worker()
    shop.start(shop.file(HOLD), "s1")
    wait_for(lambda: shop.runs("s1", "began") == ["a"], "the step to begin")
    worker.kill("SIGKILL")
    shop.let_go()
    worker.restart()
    assert until(shop, "s1")["output"] == 2
    assert shop.runs("s1") == ["a", "b"]


def test_a_beat_inside_the_worker_runs_our_entries(project: Callable[..., Project]) -> None:
    shop = project()
    worker = shop.worker("-P", "prefork", "-c", "1", "-B", "-s", str(shop.folder / "schedule"))
    worker.assert_log_exists("beat runs celery_cascade.prune", timeout=20)


def multiply(connection: sa.Connection) -> None:
    """Copy session `s0` with its head and step 9,999 times, as fast as a database can."""
    quote = connection.dialect.identifier_preparer.quote
    number = "concat('s', i)" if connection.dialect.name == "mysql" else "'s' || i"
    digits = " UNION ALL ".join(f"SELECT {digit} AS d" for digit in range(10))
    tables = ", ".join(f"({digits}) AS d{place}" for place in range(4))
    numbers = f"(SELECT d0.d + 10 * d1.d + 100 * d2.d + 1000 * d3.d AS i FROM {tables}) AS n"
    for table, ids in (
        ("cascade_sessions", ["session_id"]),
        ("session_states", ["id", "session_id"]),
        ("session_steps", ["session_id"]),
    ):
        columns = [column["name"] for column in sa.inspect(connection).get_columns(table)]
        rest = [name for name in columns if name not in (*ids, "idempotency_key")]
        made = [number for _ in ids] + [f"t.{quote(name)}" for name in rest]
        source = f"SELECT {', '.join(made)} FROM {table} t, {numbers} WHERE t.session_id = 's0' AND i > 0"
        connection.exec_driver_sql(f"INSERT INTO {table} ({', '.join(map(quote, ids + rest))}) {source}")


@pytest.mark.slow
def test_ten_thousand_open_sessions_do_not_delay_the_start(project: Callable[..., Project]) -> None:
    """R110: less than half a second; what there is to do is done beside it."""
    shop = project(cascade_resend_after=3600)

    def start() -> float:
        began = time.monotonic()
        worker = shop.worker("-P", "solo")
        took = time.monotonic() - began
        wait_for(lambda: "open sessions" in worker.logs(), "the banner")
        worker.kill("SIGKILL")
        return took

    without = min(start(), start())
    shop.start(shop.file("cascade: c\nsteps:\n  - {id: a, task: proj.work, queue: nobodys}\n"), "s0")
    shop.database.transaction(multiply)
    with shop.database.read() as connection:
        assert connection.execute(sa.text("SELECT count(*) FROM session_states")).scalar() == 10_000
    assert min(start(), start()) < without + 0.5
    log = (shop.folder / "one.log").read_text()
    assert "10000 open sessions" in log
