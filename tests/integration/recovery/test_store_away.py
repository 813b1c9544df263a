"""The database is gone in mid-run and comes back: nobody is declared dead, nothing is lost, nothing runs twice."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy.engine import make_url

from celery_cascade.persistence.database import Database
from celery_cascade.persistence.store import Store
from celery_cascade.tasks import identity
from support import stores
from support.cases import until
from support.cluster import Project, Stack, projects, wait_for
from support.proxy import Proxy, proxied

pytestmark = pytest.mark.integration

SLOW = """
cascade: slow
steps:
  - {id: first, task: proj.work, with: [1]}
  - {id: slow, task: proj.hold, with: ["{{ outputs.first }}"]}
  - {id: last, task: proj.work, with: ["{{ outputs.slow }}"]}
output: "{{ outputs.last }}"
"""
#: Two timeouts and more: whoever judged by the age of heartbeats alone would take everybody for dead.
TIMEOUT, AWAY = 1.5, 4.0
SETTINGS = {
    "cascade_heartbeat_interval": 0.5,
    "cascade_heartbeat_timeout": TIMEOUT,
    "cascade_orphan_interval": 0.5,
    "cascade_resend_after": 3.0,
    "cascade_database_patience": 60.0,
}


@pytest.fixture(
    params=[
        pytest.param("postgresql", marks=pytest.mark.postgresql),
        pytest.param("mariadb", marks=pytest.mark.mariadb),
    ]
)
def away(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Project, Proxy, str]]:
    """A project whose database is behind a proxy, and the database's own URL."""
    with stores.migrated_url(request.param) as direct:
        yield from behind_a_proxy(direct, tmp_path)


def behind_a_proxy(direct: str, folder: Path) -> Iterator[tuple[Project, Proxy, str]]:
    url = make_url(direct)
    assert url.host is not None
    with proxied(url.host, url.port or {"postgresql": 5432}.get(url.get_backend_name(), 3306)) as proxy:
        through = url.set(host="127.0.0.1", port=proxy.port).render_as_string(hide_password=False)
        for make in projects(folder, Stack("away", database_url=through, settings=SETTINGS)):
            yield make(), proxy, direct
            proxy.restore()  # so that the workers can end


def test_a_database_that_is_gone_in_mid_run_costs_time_only(away: tuple[Project, Proxy, str]) -> None:
    """R121, DESIGN.md section 4: steps that end meanwhile wait with their result, claims wait for the database."""
    shop, proxy, direct = away
    path = shop.file(SLOW)
    two = [shop.worker("-P", "prefork", "-c", "2", name="one"), shop.worker("-P", "threads", "-c", "2", name="two")]
    starts = "; ".join(f"cascades.start({str(path)!r}, session_id='s{number}')" for number in range(3))
    shop.python(f"from proj import cascades; {starts}")
    wait_for(lambda: all(shop.runs(f"s{n}", "began") == ["slow"] for n in range(3)), "the slow steps to run")
    store = Store(Database(direct, null_pool=True))
    alive = {row.id for row in store.running_workers()}
    proxy.cut()
    wait_for(lambda: min(row.silent_for for row in store.running_workers()) > 2 * TIMEOUT, "all to look dead", 30)
    shop.let_go()  # the bodies end while there is nobody to tell
    wait_for(lambda: all("slow" in shop.runs(f"s{n}") for n in range(3)), "the bodies to end")
    wait_for(lambda: min(row.silent_for for row in store.running_workers()) > AWAY, "the outage to last", 30)
    assert {row["status"] for row in store.steps("s0") if row["step"] == "slow"} == {"running"}
    proxy.restore()
    for number in range(3):
        done = until(shop, f"s{number}")
        assert (done["status"], done["output"]) == ("completed", 1)
        assert shop.runs(f"s{number}") == ["first", "slow", "last"]
        assert shop.runs(f"s{number}", "began") == ["slow"]
        assert [step["attempt"] for step in done["steps"]] == [1, 1, 1]
        assert [step["crashes"] for step in done["steps"]] == [0, 0, 0]
        assert store.attempts(f"s{number}") == []
    mine = identity.me()
    rows = store.running_workers()
    assert {row.id for row in rows} == alive
    assert not any(identity.gone_for_certain(row, mine) for row in rows)
    wait_for(lambda: max(row.silent_for for row in store.running_workers()) < TIMEOUT, "both to beat again", 10)
    assert all("waiting for the store" in node.container.logs() for node in two)
    assert not any("Traceback" in node.container.logs() for node in two)
