"""Messages are hints: of another store, doubled, late, by the thousand."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import sqlalchemy as sa

from celery_cascade.persistence.tables import steps
from support.cases import QUICK, until
from support.cluster import Project, Stack, wait_for
from support.services import fresh_postgresql_url

pytestmark = pytest.mark.integration

ONE = "cascade: c\nsteps:\n  - {id: a, task: proj.work, with: [1]}\n  - {id: b, task: proj.work, with: [2]}\n"


@pytest.mark.redis
@pytest.mark.postgresql
def test_two_stores_on_one_queue_are_told_and_each_session_ends(tmp_path, redis_url: str) -> None:
    """R158: a worker with another store drops the message and says so; the store that owns the step sends it again."""
    with fresh_postgresql_url() as one, fresh_postgresql_url() as two:
        mine = Project(tmp_path / "mine", Stack("mine", redis_url, one), cascade_resend_after=2, **QUICK)
        other = Project(tmp_path / "other", Stack("other", redis_url, two), cascade_resend_after=2, **QUICK)
        try:
            stranger = other.worker(name="stranger")
            mine.start(mine.file(ONE), "s1")
            stranger.assert_log_exists("belongs to store", timeout=20)
            (told,) = {line.partition("] ")[2] for line in stranger.logs().splitlines() if "belongs to store" in line}
            databases = [f"/{sa.make_url(url).database}" for url in (one, two)]
            assert told.index(databases[0]) < told.index(databases[1])
            assert told.endswith("celery -A proj cascade doctor")
            assert mine.show("s1")["status"] == "active"
            stranger.kill("SIGTERM")
            stranger.container.process.wait(20)
            mine.worker(name="owner")
            assert until(mine, "s1")["output"] == 2
            assert mine.runs("s1") == ["a", "b"]
        finally:
            mine.close()
            other.close()


def test_every_message_doubled_runs_every_step_once(project: Callable[..., Project]) -> None:
    """Rule 2: a duplicate is acknowledged and ignored."""
    shop = project(worker_concurrency=2)
    path = shop.file(ONE)
    code = (
        "from celery_cascade.tasks.publish import Publisher\n"
        "send = Publisher.send\n"
        "Publisher.send = lambda self, steps: [send(self, list(steps)) for steps in [list(steps)] * 3]\n"
        "from proj import cascades\n"
        f"[cascades.start({str(path)!r}, session_id=f's{{n}}') for n in range(20)]\n"
    )
    shop.python(code)
    shop.worker("-P", "prefork", "-c", "2")
    for number in range(20):
        until(shop, f"s{number}")
        assert shop.runs(f"s{number}") == ["a", "b"]


@pytest.mark.slow
@pytest.mark.redis
@pytest.mark.postgresql
def test_a_queue_flushed_in_mid_run_heals_within_a_minute_by_default(
    tmp_path, redis_url: str, postgresql_url: str
) -> None:
    """Rule 1, with the settings that ship."""
    import redis

    shop = Project(tmp_path / "p", Stack("redis-postgresql", redis_url, postgresql_url))
    try:
        shop.start(shop.file(ONE), "s1")
        client = redis.Redis.from_url(redis_url)
        client.flushdb()
        client.close()
        shop.worker()
        took = wait_for(lambda: shop.show("s1")["status"] == "completed", "the session to heal", 75)
        assert took < 65, took
    finally:
        shop.close()


@pytest.mark.redis
@pytest.mark.postgresql
def test_a_long_queue_is_not_taken_for_a_loss(tmp_path, redis_url: str, postgresql_url: str) -> None:
    """DESIGN.md section 4: 5,000 queued steps on one slow worker; the resends back off and stay few."""
    shop = Project(tmp_path / "p", Stack("redis-postgresql", redis_url, postgresql_url), cascade_resend_after=1)
    try:
        path = shop.file("cascade: c\nsteps:\n  - {id: a, task: proj.work, with: [1]}\n")
        shop.python(f"from proj import cascades; [cascades.start({str(path)!r}) for _ in range(5000)]")
        shop.worker("-P", "solo")
        left = sa.select(sa.func.count()).where(steps.c.status != "succeeded")
        with shop.database.read() as connection:
            wait_for(lambda: connection.execute(left).scalar() == 0, "5,000 sessions to end", 240)
            sends = connection.execute(sa.select(sa.func.sum(steps.c.sends))).scalar() or 0
        ran = [line for line in (shop.folder / "runs.log").read_text().splitlines() if " ran " in line]
        assert len(ran) == 5000
        assert sends - 5000 < 5000 * 6, f"{sends - 5000} duplicates"
    finally:
        shop.close()
