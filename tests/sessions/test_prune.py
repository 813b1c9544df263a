"""What goes and what stays (R141, D9), through the API."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, event

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
    shown = {one["session_id"]: one for one in report.sessions}[old["completed"]]
    assert (shown["cascade_id"], shown["status"]) == ("test", "completed")
    assert 8 * 86_400 <= shown["seconds"] < 8 * 86_400 + 60
    assert shown["bytes"] > 0
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


@contextmanager
def deletions() -> Iterator[list[int]]:
    """How many sessions each transaction deletes."""
    sizes: list[int] = []
    open_ones: list[int] = []

    def executed(_conn: Any, cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith("DELETE FROM cascade_sessions"):
            open_ones.append(cursor.rowcount)

    def committed(_conn: Any) -> None:
        if open_ones:
            sizes.append(sum(open_ones))
            open_ones.clear()

    event.listen(Engine, "after_cursor_execute", executed)
    event.listen(Engine, "commit", committed)
    try:
        yield sizes
    finally:
        event.remove(Engine, "after_cursor_execute", executed)
        event.remove(Engine, "commit", committed)


def test_it_works_in_batches_and_counts(make_kit: Callable[..., Kit], sqlite_store: str) -> None:
    """R141, R118: never more than the batch in one transaction; all that belongs to a session goes with it."""
    kit = make_kit(sqlite_store, cascade_retention={"keep_last": 0, "batch": 3})
    for _ in range(7):
        aged(kit, kit.run("a", "b"), days=8)
    kit.cascades.prune(dry_run=True)
    with deletions() as sizes:
        report = kit.cascades.prune()
    assert sizes == [3, 3, 1]
    assert (report.deleted, report.batches) == (7, 3)
    rows = kit.rows()
    assert (rows["cascade_sessions"], rows["session_states"], rows["session_steps"]) == (0, 0, 0)


def test_a_pinned_session_stays(make_kit: Callable[..., Kit], sqlite_store: str) -> None:
    """D9."""
    kit = make_kit(sqlite_store, cascade_retention={"keep_last": 0})
    kept = aged(kit, kit.run("a"), days=100)
    aged(kit, kit.run("a"), days=100)
    assert kit.cascades.session(kept).keep() is True
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
    assert "completed 7 days" in warnings[0]

    later = kit.again(cascade_retention={"keep_last": 0})  # after a restart: it was said once a store
    aged(later, later.run("a"), days=8)
    caplog.clear()
    assert later.cascades.prune().deleted == 1
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
    later.store.database.dispose()


def test_by_task_the_answer_is_plain_data(make_kit: Callable[..., Kit], sqlite_store: str) -> None:
    """R141: for Beat, and for whoever reads the result."""
    kit = make_kit(sqlite_store, cascade_retention={"keep_last": 0})
    one_of_each(kit, days=8)
    answer = kit.app.tasks["celery_cascade.prune"]()
    assert (answer["deleted"], answer["by_status"]) == (3, {"completed": 1, "cancelled": 1, "expired": 1})


def test_by_task_with_options_for_a_beat_entry_of_ones_own(make_kit: Callable[..., Kit], sqlite_store: str) -> None:
    """R141: by age, status, keep-last and cascade, with a dry run and a count."""
    kit = make_kit(sqlite_store, cascade_retention=None)
    old = one_of_each(kit, days=3)
    task = kit.app.tasks["celery_cascade.prune"]
    options = {"days": 2, "status": ["completed", "failed"], "keep_last": 0, "cascade": "test"}
    assert task(**options, dry_run=True)["by_status"] == {"completed": 1, "failed": 1}
    assert task(**(options | {"cascade": "other"}))["deleted"] == 0
    assert task(**options)["deleted"] == 2
    assert left(kit) == set(old.values()) - {old["completed"], old["failed"]}
    with pytest.raises(UsageError, match="did you mean 'keep_last'"):
        task(keeplast=1)


def test_what_is_left_over_goes_with_the_sessions(make_kit: Callable[..., Kit], sqlite_store: str) -> None:
    """D9, R120: definitions that nothing refers to, and workers long dead; all of them, not one batch."""
    kit = make_kit(sqlite_store, cascade_retention={"keep_last": 0})
    for number in range(3):
        aged(kit, kit.cascades.run(cascade("a") | {"cascade": f"c{number}"}), days=8)
    used = kit.run("a")
    old = (datetime.now(UTC) - timedelta(days=8)).strftime("%Y-%m-%d %H:%M:%S.%f")
    kit.sql("DROP TRIGGER cascade_definitions_are_immutable")
    kit.sql("UPDATE cascade_definitions SET first_seen_at = :old", old=old)
    kit.sql("UPDATE cascade_workers SET heartbeat_at = :old", old=old)
    report = kit.cascades.prune()
    assert (report.deleted, report.definitions, report.workers) == (3, 3, 4)
    assert used.definition


def test_with_retention_off_nothing_else_goes_either(make_kit: Callable[..., Kit], sqlite_store: str) -> None:
    """D9: a store of which nothing is deleted keeps who ran its steps too."""
    kit = make_kit(sqlite_store, cascade_retention=None)
    kit.run("a")
    kit.sql("UPDATE cascade_workers SET heartbeat_at = '2001-01-01 00:00:00.000000'")
    report = kit.cascades.prune()
    assert (report.definitions, report.workers) == (0, 0)
    assert kit.cascades.prune(older_than=timedelta(days=1)).workers == 1


def unchanged(kit: Kit, session: Any, **age: float) -> str:
    """Let a session have last changed so long ago."""
    at = (datetime.now(UTC) - timedelta(**age)).strftime("%Y-%m-%d %H:%M:%S.%f")
    kit.sql("UPDATE session_states SET updated_at = :at WHERE session_id = :id", at=at, id=session.id)
    return str(session.id)


def test_cleanup_deletes_what_nothing_has_changed_for_seven_days(make_kit: Callable[..., Kit], store_url: str) -> None:
    """R118: 7 d + 1 s goes, 7 d - 1 s stays; resumable ones only if asked for; the count is returned."""
    kit = make_kit(store_url, cascade_retention={"keep_last": 0})
    every = ["completed", "failed", "cancelled", "expired", "suspended"]
    kit.cascades.cleanup_old_sessions(days=0, statuses=every)
    old = {n: unchanged(kit, kit.cascades.session(i), days=7, seconds=1) for n, i in one_of_each(kit, days=0).items()}
    young = {
        n: unchanged(kit, kit.cascades.session(i), days=7, seconds=-20) for n, i in one_of_each(kit, days=0).items()
    }
    assert kit.cascades.cleanup_old_sessions(days=8) == 0
    assert kit.cascades.cleanup_old_sessions(days=7) == 3
    assert left(kit) & {*old.values(), *young.values()} == {
        old["failed"],
        old["active"],
        old["suspended"],
        *young.values(),
    }
    assert kit.cascades.cleanup_old_sessions() == 0
    assert kit.cascades.cleanup_old_sessions(7, statuses=["failed", "suspended"]) == 2
    assert old["active"] in left(kit)
    assert kit.cascades.cleanup_old_sessions(0.5, statuses="failed") == 1


def test_cleanup_leaves_the_newest_of_each_cascade_unless_told(kit: Kit) -> None:
    """D9 holds for it too."""
    for _ in range(3):
        unchanged(kit, kit.run("a"), days=100)
    assert kit.cascades.cleanup_old_sessions() == 0
    assert kit.cascades.cleanup_old_sessions(keep_last=1) == 2


@pytest.mark.parametrize(
    "options",
    [
        {"days": -1},
        {"days": "7"},
        {"days": float("nan")},
        {"days": True},
        {"days": 1e9},
        {"statuses": ["active"]},
        {"statuses": "nonsense"},
        {"keep_last": -1},
    ],
)
def test_what_cannot_be_cleaned_up_is_told(kit: Kit, options: dict[str, Any]) -> None:
    """R150."""
    session = kit.start("a")
    with pytest.raises(UsageError):
        kit.cascades.cleanup_old_sessions(**options)
    assert session.status == "active"


@pytest.mark.parametrize(
    "options",
    [
        {"older_than": 7},
        {"older_than": timedelta(-1)},
        {"status": ["active"]},
        {"status": "nonsense"},
        {"status": "suspended"},
        {"keep_last": -1},
        {"keep_last": True},
        {"cascade": 7},
    ],
)
def test_what_cannot_be_pruned_is_told(kit: Kit, options: dict[str, Any]) -> None:
    """R150."""
    kit.run("a")
    with pytest.raises(UsageError):
        kit.cascades.prune(**options)
    assert len(left(kit)) == 1
