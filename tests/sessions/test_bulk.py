"""One action on many sessions (R129, R135): what is done, what is refused, and that it can be killed at any moment."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import pytest
from sqlalchemy import func, insert, select

from celery_cascade import errors
from celery_cascade.crash_points import CrashPoint, arm
from celery_cascade.persistence import tables
from celery_cascade.persistence.finding import SessionFilter
from celery_cascade.persistence.store import Store
from celery_cascade.sessions.acts import OPERATIONS, Operation
from celery_cascade.sessions.bulk import PAGE, Outcome, walk
from contract.traffic import watched
from sessions.kit import Kit


def fill(store: Store, cascade_id: str, number: int, status: str = "active") -> list[str]:
    """Sessions with one step each, queued or done, as a SQL client would make them; the oldest first."""
    began = datetime.now(UTC) - timedelta(days=90)
    ids = [f"{uuid.uuid4()}" for _ in range(number)]
    times = [began + timedelta(seconds=each // 3) for each in range(number)]  # several in one moment
    final = status in ("completed", "failed", "cancelled", "expired")
    step = "queued" if status == "active" else "pending" if status == "suspended" else "succeeded"

    def rows() -> Iterator[tuple[Any, list[dict[str, Any]]]]:
        both = list(zip(ids, times, strict=True))
        yield (
            tables.sessions,
            [{"session_id": i, "cascade_id": cascade_id, "root_session_id": i, "created_at": at} for i, at in both],
        )
        common = {"mode": "cascade", "status": status, "total_steps": 1, "open_steps": int(not final)}
        yield (
            tables.heads,
            [
                {"id": i, "session_id": i, "created_at": at, "updated_at": at, "finished_at": at if final else None}
                | common
                for i, at in both
            ],
        )
        yield (
            tables.steps,
            [
                {"session_id": i, "step": "a", "item": -1, "status": step, "task": "add"}
                | {"finished_at": at if final else None}
                for i, at in both
            ],
        )

    def work(conn: Any) -> None:
        for table, values in rows():
            conn.execute(insert(table), values)

    store.database.transaction(work)
    return ids


def statuses(store: Store, cascade_id: str) -> dict[str, int]:
    statement = (
        select(tables.heads.c.status, func.count().label("n"))
        .join(tables.sessions, tables.sessions.c.session_id == tables.heads.c.session_id)
        .where(tables.sessions.c.cascade_id == cascade_id)
        .group_by(tables.heads.c.status)
    )
    with store.database.read() as conn:
        return {row.status: row.n for row in conn.execute(statement)}


@pytest.fixture
def name() -> str:
    return f"c-{uuid.uuid4().hex[:8]}"


def test_a_filter_cancels_what_it_finds_with_who_and_why(any_kit: Kit, name: str) -> None:
    """R135: everything is recorded, as for one."""
    active, waits = fill(any_kit.store, name, 3), fill(any_kit.store, name, 2, "suspended")
    others = fill(any_kit.store, f"{name}-other", 2)
    fill(any_kit.store, name, 2, "failed")
    report = any_kit.cascades.bulk("cancel", cascade=name, reason="recalled", actor="ann")
    assert set(report.done) == {*active, *waits}
    assert (report.refused, report.by_status) == ({}, {"active": 3, "suspended": 2})
    assert statuses(any_kit.store, name) == {"cancelled": 5, "failed": 2}
    assert statuses(any_kit.store, f"{name}-other") == {"active": len(others)}
    for session_id in report.done:
        (action,) = any_kit.store.actions(session_id)
        assert (action["action"], action["actor"], action["reason"]) == ("cancel", "ann", "recalled")


def test_a_filter_that_there_is_none_of_is_named_with_the_right_word(kit: Kit) -> None:
    session = kit.start("a")
    with pytest.raises(errors.UsageError, match=r"'cascde' is no filter; did you mean 'cascade'\?"):
        kit.cascades.bulk("cancel", cascde="order")
    assert session.status == "active"


def test_a_status_that_is_named_is_what_is_meant(kit: Kit, name: str) -> None:
    failed = fill(kit.store, name, 2, "failed")
    fill(kit.store, name, 2)
    assert set(kit.cascades.bulk("cancel", cascade=name, status="failed").done) == set(failed)


def test_suspend_and_resume_are_each_other_s_way_back(any_kit: Kit) -> None:
    """R129."""
    started = [any_kit.start("a", "b", name="n") for _ in range(3)]
    ids = [session.id for session in started]
    assert any_kit.cascades.bulk("suspend", ids, reason="pause").done == ids
    assert {session.status for session in started} == {"suspended"}
    assert any_kit.cascades.bulk("resume", ids).done == ids
    any_kit.deliver()
    assert {session.status for session in started} == {"completed"}
    assert [row["action"] for row in any_kit.store.actions(ids[0])] == ["suspend", "resume"]


def test_what_cannot_be_done_is_refused_with_the_state_named_and_stops_nothing(kit: Kit) -> None:
    """R135, R138."""
    done, waits, runs = kit.run("a"), kit.start("a"), kit.start("a")
    waits.suspend()
    ids = [done.id, waits.id, runs.id]
    for action, refused in (
        ("suspend", {done.id: "completed", waits.id: "suspended"}),
        ("cancel", {done.id: "completed"}),
        ("resume", {done.id: "completed", waits.id: "cancelled", runs.id: "cancelled"}),
    ):
        foreseen = kit.cascades.bulk(action, ids, dry_run=True)
        report = kit.cascades.bulk(action, ids)
        assert {key: refused[key] in words for key, words in report.refused.items()} == dict.fromkeys(refused, True)
        assert foreseen.refused.keys() == report.refused.keys()
        assert foreseen.done == report.done == [one for one in ids if one not in refused]


def test_a_session_in_doubt_is_not_resumed_by_a_bulk_resume(kit: Kit) -> None:
    started = kit.start({"id": "a", "task": "add", "on_crash": "ask"})
    kit.sql("UPDATE session_steps SET status = 'pending', reason = 'in_doubt' WHERE session_id = :s", s=started.id)
    kit.sql(
        "UPDATE session_states SET status = 'suspended', status_reason = 'in_doubt' WHERE session_id = :s",
        s=started.id,
    )
    assert kit.cascades.bulk("resume", [started.id], dry_run=True).refused.keys() == {started.id}
    assert kit.cascades.bulk("resume", [started.id]).refused.keys() == {started.id}


def test_delete_takes_trees_whole_and_leaves_what_is_kept(any_kit: Kit, name: str) -> None:
    """D10."""
    store = any_kit.store
    root, kept = fill(store, name, 2, "completed")
    child = str(uuid.uuid4())
    at = datetime.now(UTC)
    row = {
        "session_id": child,
        "cascade_id": name,
        "root_session_id": root,
        "parent_session_id": root,
        "created_at": at,
    }
    head = {"id": child, "session_id": child, "mode": "cascade", "status": "completed", "finished_at": at}
    store.database.transaction(
        lambda conn: (conn.execute(insert(tables.sessions), row), conn.execute(insert(tables.heads), head))
    )
    any_kit.cascades.session(kept).keep()
    assert set(any_kit.cascades.bulk("delete", cascade=name, dry_run=True).done) == {root, child}
    report = any_kit.cascades.bulk("delete", cascade=name)
    assert set(report.done) == {root, child}
    assert list(report.refused) == [kept]
    assert statuses(store, name) == {"completed": 1}


def test_unknown_ids_are_refused_by_name_and_the_others_are_done(kit: Kit) -> None:
    session = kit.start("a")
    report = kit.cascades.bulk("cancel", ["nobody", session.id, session.id])
    assert (report.done, list(report.refused)) == ([session.id], ["nobody"])


@pytest.mark.parametrize(
    ("args", "filters", "words"),
    [
        (("cancel",), {}, "say which"),
        (("cancel", ["a"]), {"cascade": "x"}, "say which"),
        (("cancle", ["a"]), {}, "did you mean 'cancel'"),
        (("cancel", 7), {}, "ids"),
        (("cancel",), {"status": "nope"}, "nope"),
        (("cancel", ["a"]), {"reason": "x" * 20_000}, "reason"),
        (("cancel", ["a"]), {"actor": 7}, "actor"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_done(
    kit: Kit, args: tuple[Any, ...], filters: dict[str, Any], words: str
) -> None:
    with pytest.raises(errors.UsageError, match=words):
        kit.cascades.bulk(*args, **filters)


# -- many
def walked(kit: Kit, operation: Operation, wanted: SessionFilter, **more: Any) -> Iterator[Outcome]:
    """With a clock that stands still: a page is read once, however slow the machine is."""
    return walk(kit.runtime, operation, wanted, reason=None, actor=None, **({"clock": lambda: 0.0} | more))


def test_ten_thousand_sessions_are_walked_page_by_page(kit: Kit, name: str) -> None:
    """R129. No statement reads more than a page; what one session costs does not grow with how many there are."""
    ten_thousand = 10_000
    ids = fill(kit.store, name, ten_thousand)
    asked: list[str] = []
    cancel = replace(OPERATIONS["cancel"], does=lambda _, row, __: asked.append(row["session_id"]) or [asked[-1]])
    for dry_run in (True, False):
        with watched() as traffic:
            found = [one.session_id for one in walked(kit, cancel, SessionFilter(cascade=name), dry_run=dry_run)]
        assert sorted(found) == sorted(ids)
        assert len(traffic.statements) <= 2 * (ten_thousand // PAGE + 1)  # a look at which way to read, and a page
        assert all("LIMIT" in sql for sql, _ in traffic.statements)
    assert asked == found


def test_each_session_costs_the_same(kit: Kit, name: str) -> None:
    fill(kit.store, name, 225)
    said = []
    for limit in (25, 75, 125):
        done = 0
        with watched() as traffic:
            for _ in walked(kit, OPERATIONS["cancel"], SessionFilter(cascade=name)):
                done += 1
                if done == limit:
                    break
        said.append(len(traffic.statements))
    assert said[1] - said[0] == said[2] - said[1] <= 50 * 20
    assert statuses(kit.store, name) == {"cancelled": 225}


def test_what_begins_or_changes_meanwhile_is_neither_missed_nor_done_twice(kit: Kit, name: str) -> None:
    ids = fill(kit.store, name, 3 * PAGE // 2)
    late: list[str] = []
    found = []
    for one in walked(kit, OPERATIONS["cancel"], SessionFilter(cascade=name)):
        found.append(one)
        if len(found) == 1:
            late += [kit.start("a", name="late").id]
            kit.sql("UPDATE session_states SET status = 'suspended' WHERE session_id = :s", s=ids[0])  # still meant
            kit.cascades.session(ids[1]).cancel("by somebody else")  # before its page is read
            kit.cascades.session(ids[-9]).cancel("by somebody else")  # and after
    assert sorted(one.session_id for one in found) == sorted({*ids} - {ids[1]})
    (refused,) = [one for one in found if one.refused]
    assert refused.session_id == ids[-9]
    assert "is cancelled" in str(refused.refused)
    assert kit.cascades.session(late[0]).status == "active"


def test_a_session_that_went_on_since_its_page_was_read_is_left_alone(kit: Kit, name: str) -> None:
    """Whoever cancels what failed does not mean what somebody has resumed a second ago."""
    ids = fill(kit.store, name, 2, "failed")
    seconds = count()
    failed = SessionFilter(cascade=name, status=["failed"])
    going = walked(kit, OPERATIONS["cancel"], failed, clock=lambda: float(next(seconds)))
    first = next(going)
    (other,) = set(ids) - {first.session_id}
    kit.sql("UPDATE session_states SET status = 'active', finished_at = NULL WHERE session_id = :s", s=other)
    assert list(going) == []
    assert kit.cascades.session(other).status == "active"


# -- killed in the middle
class Killed(BaseException):
    """As a SIGKILL would: nothing of ours catches it."""


@contextmanager
def killed_at(point: CrashPoint, number: int) -> Iterator[None]:
    left = number

    def visit(here: CrashPoint, _: Any) -> None:
        nonlocal left
        left -= here is point
        if not left:
            raise Killed

    arm(visit)
    try:
        with pytest.raises(Killed):
            yield
    finally:
        arm(None)


@pytest.mark.parametrize("point", [CrashPoint.HALT_OPEN, CrashPoint.HALTED, CrashPoint.END_OPEN, CrashPoint.ENDED])
def test_a_bulk_cancel_killed_in_the_middle_and_run_again_ends_the_same(
    any_kit: Kit, name: str, point: CrashPoint
) -> None:
    """R135, and the crash matrix of bulk actions."""
    ids = fill(any_kit.store, name, 5)
    with killed_at(point, 3):
        any_kit.cascades.bulk("cancel", cascade=name)
    report = any_kit.cascades.bulk("cancel", cascade=name)
    assert report.refused == {}
    assert statuses(any_kit.store, name) == {"cancelled": 5}
    for session_id in ids:
        steps = any_kit.store.steps(session_id)
        assert [step["status"] for step in steps] == ["cancelled"]
        assert {row["action"] for row in any_kit.store.actions(session_id)} == {"cancel"}


@pytest.mark.parametrize("action", ["suspend", "delete"])
def test_other_actions_killed_in_the_middle_and_run_again_end_the_same(kit: Kit, name: str, action: str) -> None:
    fill(kit.store, name, 4, "completed" if action == "delete" else "active")
    point = {"suspend": CrashPoint.HALTED}.get(action)
    if point is not None:
        with killed_at(point, 2):
            kit.cascades.bulk(action, cascade=name)
        report = kit.cascades.bulk(action, cascade=name)
        assert statuses(kit.store, name) == {"suspended": 4}
    else:
        going = walked(kit, OPERATIONS[action], SessionFilter(cascade=name))
        next(going)
        going.close()
        report = kit.cascades.bulk(action, cascade=name)
        assert statuses(kit.store, name) == {}
        assert len(report.done) == 3
    assert report.refused == {}


def test_a_bulk_cancel_beside_a_prune(make_kit: Callable[..., Kit], store_url: str, name: str) -> None:
    """R141. What the prune takes is gone or cancelled; nobody waits for ever, nothing is half there."""
    kits = [make_kit(store_url, cascade_retention={"keep_last": 0, "batch": 7}) for _ in range(2)]
    old = fill(kits[0].store, name, 40, "completed") + fill(kits[0].store, name, 40, "failed")
    live = fill(kits[0].store, name, 40)
    with ThreadPoolExecutor(2) as pool:
        cancelling = pool.submit(
            kits[0].cascades.bulk, "cancel", cascade=name, status=["active", "failed", "completed"]
        )
        pruning = pool.submit(kits[1].cascades.prune, cascade=name, older_than=timedelta(days=1))
        report, pruned = cancelling.result(timeout=120), pruning.result(timeout=120)
    found = statuses(kits[0].store, name)
    assert set(live) <= set(report.done)
    assert set(report.done) | set(report.refused) <= {*old, *live}
    assert found.get("active", 0) == 0
    assert sum(found.values()) + pruned.deleted == 120
