"""What goes and what stays (R141, D9), through the API."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from celery_cascade import Retention
from celery_cascade.errors import UsageError
from sessions.kit import Kit, cascade


def aged(kit: Kit, session: Any, **age: float) -> str:
    """Let a session have ended so long ago."""
    at = (datetime.now(UTC) - timedelta(**age)).strftime("%Y-%m-%d %H:%M:%S.%f")
    kit.sql("UPDATE session_states SET finished_at = :at WHERE session_id = :id AND finished_at IS NOT NULL",
            at=at, id=session.id)  # fmt: skip
    return str(session.id)


def one_of_each(kit: Kit, **age: float) -> dict[str, str]:
    made = {"completed": kit.run("a"), "failed": kit.run({"id": "a", "task": "broken"}), "active": kit.start("a")}
    made["suspended"], made["cancelled"], made["expired"] = kit.start("a"), kit.start("a"), kit.start("a", expires_in=9)
    made["suspended"].suspend()
    made["cancelled"].cancel()
    kit.sql("UPDATE session_states SET expires_at = '2001-01-01 00:00:00.000000' WHERE expires_at IS NOT NULL")
    kit.app.tasks["celery_cascade.expire"]()
    assert {name: session.status.value for name, session in made.items()} == {name: name for name in made}
    return {name: aged(kit, session, **age) for name, session in made.items()}


def left(kit: Kit) -> set[str]:
    return {session.id for session in kit.cascades.sessions(limit=1000)}


def test_each_status_goes_after_its_own_time(make_kit: Callable[..., Kit], store_url: str) -> None:
    """D9, R118: 7 days, failed ones 30, active and suspended ones never."""
    kit = make_kit(store_url, cascade_retention={"keep_last": 0})
    kit.cascades.prune(older_than=timedelta(0), status=["completed", "failed", "cancelled", "expired"])
    old = one_of_each(kit, days=7, seconds=10)
    young = one_of_each(kit, days=7, seconds=-60)
    report = kit.cascades.prune()
    assert report.deleted == 3
    assert report.by_status == {"completed": 1, "cancelled": 1, "expired": 1}
    gone = {old["completed"], old["cancelled"], old["expired"]}
    assert left(kit) & {*old.values(), *young.values()} == {*old.values(), *young.values()} - gone
    kit.sql("UPDATE session_states SET finished_at = '2001-01-01 00:00:00.000000' WHERE session_id = :id",
            id=old["failed"])  # fmt: skip
    assert kit.cascades.prune().by_status == {"failed": 1}
    assert kit.cascades.prune().deleted == 0


def test_the_newest_of_each_cascade_stay(make_kit: Callable[..., Kit], sqlite_store: str) -> None:
    """D9: whatever their age, the newest 20 finished sessions; here 2."""
    kit = make_kit(sqlite_store, cascade_retention=Retention(keep_last=2))
    mine = [aged(kit, kit.run("a"), days=100 - n) for n in range(4)]
    other = aged(kit, kit.cascades.run(cascade("a") | {"cascade": "other"}), days=500)
    assert kit.cascades.prune().deleted == 2
    assert left(kit) == {mine[2], mine[3], other}


def test_a_dry_run_shows_what_would_go_and_deletes_nothing(make_kit: Callable[..., Kit], sqlite_store: str) -> None:
    """R141, D9."""
    kit = make_kit(sqlite_store, cascade_retention={"keep_last": 0})
    old = one_of_each(kit, days=8)
    before = kit.rows()
    report = kit.cascades.prune(dry_run=True)
    assert (report.deleted, report.batches, report.dry_run) == (3, 0, True)
    assert set(report.session_ids) == {old["completed"], old["cancelled"], old["expired"]}
    assert kit.rows() == before


def test_older_than_takes_failed_ones_only_by_name(make_kit: Callable[..., Kit], sqlite_store: str) -> None:
    """D9: it replaces the age of the final statuses; failed sessions can still be resumed."""
    kit = make_kit(sqlite_store, cascade_retention={"keep_last": 0})
    old = one_of_each(kit, hours=2)
    assert kit.cascades.prune(older_than=timedelta(hours=3)).deleted == 0
    assert kit.cascades.prune(older_than=timedelta(hours=1)).deleted == 3
    assert left(kit) == {old["failed"], old["active"], old["suspended"]}
    assert kit.cascades.prune(older_than=timedelta(hours=1), status="failed").by_status == {"failed": 1}


def test_no_retention_deletes_nothing_unless_it_is_asked(make_kit: Callable[..., Kit], sqlite_store: str) -> None:
    """D9: `cascade_retention = None` turns pruning off."""
    kit = make_kit(sqlite_store, cascade_retention=None)
    one_of_each(kit, days=5000)
    assert kit.cascades.prune().deleted == 0
    assert kit.app.tasks["celery_cascade.prune"]()["deleted"] == 0
    assert kit.cascades.prune(older_than=timedelta(days=1)).deleted == 0  # the newest 20 stay all the same


def test_it_works_in_batches_and_counts(make_kit: Callable[..., Kit], sqlite_store: str) -> None:
    """R141, R118: never more than the batch in one transaction; all that belongs to a session goes with it."""
    kit = make_kit(sqlite_store, cascade_retention={"keep_last": 0, "batch": 3})
    for _ in range(7):
        aged(kit, kit.run("a", "b"), days=8)
    report = kit.cascades.prune()
    assert (report.deleted, report.batches) == (7, 3)
    rows = kit.rows()
    assert (rows["cascade_sessions"], rows["session_states"], rows["session_steps"]) == (0, 0, 0)


def test_a_pinned_session_stays(make_kit: Callable[..., Kit], sqlite_store: str) -> None:
    """D9."""
    kit = make_kit(sqlite_store, cascade_retention={"keep_last": 0})
    kept = aged(kit, kit.run("a"), days=100)
    aged(kit, kit.run("a"), days=100)
    kit.sql("UPDATE session_states SET pinned = 1 WHERE session_id = :id", id=kept)
    assert kit.cascades.prune().deleted == 1
    assert left(kit) == {kept}


def test_the_first_prune_that_deletes_says_so(
    make_kit: Callable[..., Kit], sqlite_store: str, caplog: pytest.LogCaptureFixture
) -> None:
    """D9: a warning with count and setting, once: nobody may have asked for it."""
    kit = make_kit(sqlite_store, cascade_retention={"keep_last": 0, "batch": 1})
    with caplog.at_level(logging.WARNING, "celery_cascade"):
        kit.cascades.prune()
        assert caplog.text == ""
        for _ in range(2):
            for _ in range(2):
                aged(kit, kit.run("a"), days=8)
            kit.cascades.prune()
    warnings = [record.getMessage() for record in caplog.records if "deleting" in record.getMessage()]
    assert len(warnings) == 1
    assert "deleting 2 finished sessions" in warnings[0]
    assert "cascade_retention" in warnings[0]


def test_by_task_the_answer_is_plain_data(make_kit: Callable[..., Kit], sqlite_store: str) -> None:
    """R141: for Beat, and for whoever reads the result."""
    kit = make_kit(sqlite_store, cascade_retention={"keep_last": 0})
    one_of_each(kit, days=8)
    answer = kit.app.tasks["celery_cascade.prune"]()
    assert (answer["deleted"], answer["by_status"]) == (3, {"completed": 1, "cancelled": 1, "expired": 1})


@pytest.mark.parametrize(
    "options", [{"older_than": 7}, {"older_than": timedelta(-1)}, {"status": ["active"]}, {"status": "nonsense"}]
)
def test_what_cannot_be_pruned_is_told(kit: Kit, options: dict[str, Any]) -> None:
    """R150."""
    kit.run("a")
    with pytest.raises(UsageError):
        kit.cascades.prune(**options)
    assert len(left(kit)) == 1
