"""Faults that other systems had in their recovery, each as a test here; the docstrings name whose they were."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import Engine, event

from celery_cascade.crash_points import CrashPoint, arm
from celery_cascade.errors import CascadeError
from celery_cascade.persistence.rows import StepKey, WorkerRow
from celery_cascade.tasks import fate, recovery
from contract.kit import Kit as StoreKit
from contract.kit import worker_row
from contract.traffic import connection_lost, is_begin
from sessions.kit import CHAIN, Kit

QUICK = {"cascade_resend_after": 0.05, "cascade_max_crashes": 2}


@pytest.fixture(autouse=True)
def disarmed() -> Iterator[None]:
    yield
    arm(None)


@contextmanager
def restarting(position: int) -> Iterator[list[str]]:
    """The database is gone from the statement at this position on, as when its server restarts."""
    seen: list[str] = []

    def before(_conn: Any, _cursor: Any, statement: str, *_more: Any) -> None:
        if not is_begin(statement):
            seen.append(statement)
        if len(seen) > position:
            raise connection_lost()

    event.listen(Engine, "before_cursor_execute", before)
    try:
        yield seen
    finally:
        event.remove(Engine, "before_cursor_execute", before)


def dead_worker(kit: Kit, *steps: tuple[str, str], worker: str = "dead") -> None:
    """A worker that has claimed these steps and is gone."""
    kit.store.add_worker(WorkerRow(id=worker, nodename=f"{worker}@h", host="elsewhere", pid=1, pool="solo"))
    for number, (session, step) in enumerate(steps):
        attempt = next(row["attempt"] for row in kit.store.steps(session) if row["step"] == step)
        key = StepKey(session, step)
        assert kit.store.claim(key, attempt=attempt, token=f"{worker}{number}", worker=worker, runner="r")
    kit.store.stop_worker(worker)


def forget(kit: Kit, *ids: str) -> None:
    """The store is shared by tests: what is left active would be found by the next one's recovery."""
    for session_id in ids:
        kit.store.delete_session(session_id)
    kit.sql("DELETE FROM cascade_workers")


def test_a_restart_of_the_database_during_recovery_strands_no_session(any_kit: Kit) -> None:
    """dbos-transact-py#716: whichever statement of a recovery is the first to fail, the next look does the rest."""
    position, broken = 0, 0
    while True:
        sessions = [any_kit.start("a", "b") for _ in range(2)]
        any_kit.messages()
        dead_worker(any_kit, *((session.id, "a") for session in sessions), worker=f"dead{position}")
        with restarting(position) as seen:
            try:
                any_kit.recover()
            except CascadeError:
                broken += 1
        any_kit.recover()
        for session in sessions:
            row = any_kit.store.steps(session.id)[0]
            assert (row["status"], row["attempt"], row["crashes"]) == ("queued", 2, 1), (position, seen[-1:])
            assert len(any_kit.store.attempts(session.id)) == 1
        if position % 5 == 0:
            any_kit.deliver()
            assert [session.status for session in sessions] == ["completed"] * 2
        any_kit.messages()
        forget(any_kit, *(session.id for session in sessions))
        if len(seen) <= position:
            break
        position += 1
    assert broken > 5, "the restart was felt"


def test_a_stale_recovery_list_takes_nothing_that_somebody_owns_by_now(kit: StoreKit) -> None:
    """dbos-transact-py#742: what was an orphan when the list was read has a new owner when its turn comes."""
    session = kit.start()
    kit.store.add_worker(worker_row("dead"))
    kit.store.add_worker(worker_row("alive"))
    kit.claim(session, worker="dead", token="old")
    kit.store.stop_worker("dead")
    (stale,) = kit.store.orphans(silent_for=None)
    assert kit.store.release(stale, error=None)
    kit.claim(session, worker="alive", token="new")
    owned = dict(kit.row(session)), dict(kit.head(session))
    assert kit.store.release(stale, error=None) is False
    assert kit.store.release(stale, error=None, silent_for=0.0) is False
    assert kit.store.park(stale, reason=None) is False
    assert (dict(kit.row(session)), dict(kit.head(session))) == owned
    assert len(kit.store.attempts(session)) == 1


def test_a_stale_recovery_list_of_a_worker_that_beats_again_takes_nothing(kit: StoreKit) -> None:
    """dbos-transact-py#742, the other half: the list was right, and its owner has come back since."""
    session = kit.start()
    kit.store.add_worker(worker_row("w1"))
    kit.claim(session, worker="w1")
    kit.clock.forward(20)
    (stale,) = kit.store.orphans(silent_for=15)
    kit.store.beat("w1")
    assert kit.store.release(stale, error=None, silent_for=15) is False
    assert kit.row(session)["status"] == "running"


@pytest.mark.parametrize("step", ["a", "b", "c"])
@pytest.mark.parametrize("point", [CrashPoint.CHECKPOINT_OPEN, CrashPoint.CHECKPOINTED, CrashPoint.PUBLISH])
def test_a_session_does_not_stick_between_two_finished_steps(
    make_kit: Callable[..., Kit], store_url: str, point: CrashPoint, step: str
) -> None:
    """dbos-transact-py#805: the worker dies between the end of one step and the message of the next."""
    kit = make_kit(store_url, **QUICK)
    session = kit.cascades.start(kit.file(CHAIN), {"n": 1})

    class Crash(BaseException):
        pass

    def visit(reached: CrashPoint, of: object) -> None:
        if reached is point and getattr(of, "step", None) == step:
            arm(None)
            raise Crash

    arm(visit)
    if not (point is CrashPoint.CHECKPOINT_OPEN and kit.store.database.family == "postgresql"):
        if point is CrashPoint.PUBLISH and step == "a":
            kit.messages()
            kit.store.wake_later(StepKey(session.id, "a"), 0.0)
            with pytest.raises(Crash):
                recovery.send_due(kit.runtime)
        else:
            with pytest.raises(Crash):
                kit.deliver()
    arm(None)
    for _ in range(100):
        if session.status == "completed":
            break
        kit.recover()
        recovery.send_due(kit.runtime)
        kit.deliver()
    assert session.output == 4
    assert session.status == "completed"
    ended = [row["attempt"] for row in kit.store.steps(session.id)]
    repeated = 1 if point is CrashPoint.CHECKPOINT_OPEN and kit.store.database.family != "postgresql" else 0
    assert sum(ended) == 3 + repeated, "what was checkpointed is not run again"
    assert len(kit.ran) == 3 + repeated


def test_one_orphan_that_is_handled_twice_pays_for_one_crash(make_kit: Callable[..., Kit], store_url: str) -> None:
    """airflow#42553: two schedulers handle the same orphan, and its budget of two is gone after one crash."""
    kit = make_kit(store_url, **QUICK)
    for number in range(8):
        session = kit.start("a")
        dead_worker(kit, (session.id, "a"), worker=f"dead{number}")
        (orphan,) = [one for one in kit.store.orphans(silent_for=None) if one.key.session_id == session.id]
        with ThreadPoolExecutor(3) as pool:
            found = list(
                pool.map(lambda _: fate.give_back(kit.runtime, orphan, "{}", certain=False), range(3))  # noqa: B023
            )
        assert sorted(found, key=str) == [fate.Fate.QUEUED, None, None]
        row = kit.store.steps(session.id)[0]
        assert (row["status"], row["crashes"], row["attempt"]) == ("queued", 1, 2)
        assert session.status == "active", "poisoned only by a second crash"
        assert len(kit.store.attempts(session.id)) == 1
        kit.messages()
        forget(kit, session.id)


def test_a_recovery_that_stalls_keeps_nobody_from_the_next_one(kit: StoreKit) -> None:
    """procrastinate#1408: whoever does the sweep dies or hangs in the middle of it; it holds no lock and no lease."""
    kit.store.add_worker(worker_row("dead"))
    sessions = [kit.start() for _ in range(3)]
    for session in sessions:
        kit.claim(session, worker="dead")
    kit.store.stop_worker("dead")
    assert kit.store.begin_sweep("orphans", 5.0)
    stalled = kit.store.orphans(silent_for=None)
    kit.store.release(stalled[0], error=None)  # and here it hangs, for ever
    assert not kit.store.begin_sweep("orphans", 5.0)
    kit.clock.forward(5)
    assert kit.store.begin_sweep("orphans", 5.0)
    assert [kit.store.release(one, error=None) for one in kit.store.orphans(silent_for=None)] == [True, True]
    kit.clock.forward(-3600)  # the database's clock was set back: nobody waits an hour for the next sweep
    assert kit.store.begin_sweep("orphans", 5.0)
    assert [kit.row(session)["attempt"] for session in sessions] == [2, 2, 2]


def test_a_session_that_cannot_be_recovered_stalls_no_other(any_kit: Kit, caplog: pytest.LogCaptureFixture) -> None:
    """procrastinate#1408: one bad row must not end the job that all others wait for."""
    kit = any_kit
    damaged, sound = kit.start({"id": "a", "task": "echo", "with": ["x"]}), kit.start("a")
    late = kit.start({"id": "a", "task": "add", "timeout": "1s"})
    dead_worker(kit, (damaged.id, "a"), (sound.id, "a"), worker="dead")
    key = StepKey(late.id, "a")
    kit.store.add_worker(WorkerRow(id="slow", nodename="slow@h", host="elsewhere", pid=1, pool="solo"))
    assert kit.store.claim(key, attempt=1, token="t", worker="slow", runner="r", timeout=-5.0)
    digests = [kit.store.session(one.id)["definition_digest"] for one in (damaged, late)]
    kit.runtime._plans, kit.runtime._sessions = type(kit.runtime._plans)(9), type(kit.runtime._sessions)(9)
    with broken_definitions(kit, digests):
        kit.recover()
    assert kit.store.steps(sound.id)[0]["status"] == "queued"
    assert kit.store.steps(damaged.id)[0]["status"] == "queued", "its step waits, whatever its definition says"
    assert "is overdue" in caplog.text
    kit.messages()
    forget(kit, damaged.id, sound.id, late.id)


@contextmanager
def broken_definitions(kit: Kit, digests: list[str]) -> Iterator[None]:
    """Somebody has damaged these in the database."""
    load = kit.runtime.store.definition

    def damaged(digest: str) -> Any:
        row = dict(load(digest))
        return row | {"body": b"cascade: [broken"} if digest in digests else row

    kit.runtime.store.definition = damaged  # type: ignore[method-assign]
    try:
        yield
    finally:
        del kit.runtime.store.definition


BRANCHES = [
    "root",
    {"id": "low", "task": "add", "needs": ["root"]},
    *({"id": f"leaf{n}", "task": "add", "needs": ["low"]} for n in (1, 2, 3)),
    {"id": "join", "task": "add", "needs": ["leaf1", "leaf2", "leaf3"]},
]


def three_in_flight(kit: Kit) -> Any:
    """Three branches at depth 3 run on one worker, and it dies."""
    session = kit.start(*BRANCHES)
    for step in ("root", "low"):
        (message,) = kit.messages()
        with_worker(kit, message)
        assert step
    kit.messages()
    dead_worker(kit, *((session.id, f"leaf{n}") for n in (1, 2, 3)))
    return session


def with_worker(kit: Kit, message: Any) -> None:
    from celery_cascade.tasks.local_worker import local_worker

    with local_worker(kit.runtime):
        kit.receive(message)


def test_three_branches_at_depth_3_that_were_killed_in_flight_are_all_restored(
    any_kit: Kit, caplog: pytest.LogCaptureFixture
) -> None:
    """R71: each from its own latest checkpoint, and `3/3 restored` is reported."""
    session = three_in_flight(any_kit)
    with caplog.at_level(logging.INFO, "celery_cascade"):
        any_kit.recover()
    assert f"session {session.id}: 3/3 steps restored: leaf1, leaf2, leaf3" in caplog.messages
    any_kit.deliver()
    assert session.status == "completed"
    assert [(row["step"], row["attempt"]) for row in any_kit.store.steps(session.id) if row["attempt"] > 1] == [
        ("leaf1", 2), ("leaf2", 2), ("leaf3", 2),
    ]  # fmt: skip
    assert any_kit.counts["root"] == any_kit.counts["low"] == any_kit.counts["join"] == 1
    forget(any_kit, session.id)


def test_what_is_not_restored_is_not_counted(
    make_kit: Callable[..., Kit], store_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """R71: one that has crashed too often is parked, and the session waits for an operator."""
    kit = make_kit(store_url, cascade_max_crashes=2)
    session = three_in_flight(kit)
    kit.sql("UPDATE session_steps SET crashes = 1 WHERE session_id = :s AND step = 'leaf3'", s=session.id)
    with caplog.at_level(logging.INFO, "celery_cascade"):
        kit.recover()
    told = [message for message in caplog.messages if "steps restored" in message]
    assert len(told) == 1
    assert "3/3" not in told[0]
    assert "not restored: " in told[0]
    assert "leaf3" in told[0].partition("not restored: ")[2]
    assert session.status == "suspended"
    forget(kit, session.id)
