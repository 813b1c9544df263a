"""Races with real connections: what two may do at once, and answers that get lost (rules 2 to 6)."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from functools import partial
from itertools import chain
from typing import Any

import pytest
from sqlalchemy import Engine, event, select, text, update

from celery_cascade.errors import ClaimLost, SessionConflict, SessionNotFound, StoreUnavailable
from celery_cascade.persistence import tables
from celery_cascade.persistence.database import Database
from celery_cascade.persistence.head import Action
from celery_cascade.persistence.prune_rules import Rules
from celery_cascade.persistence.rows import ClaimedStep, StepKey
from celery_cascade.sessions.deleting import refuse
from celery_cascade.states import Halt, SuspendReason
from contract.kit import Kit, joins, new_session, queued, worker_row
from contract.traffic import connection_lost, deadlock_at, lost_answers, watched


def at_once(*calls: Callable[[], Any]) -> list[Any]:
    """Run these in threads that start together; results or exceptions, in order."""
    gate = threading.Barrier(len(calls))

    def run(call: Callable[[], Any]) -> Any:
        gate.wait()
        try:
            return call()
        except Exception as error:  # noqa: BLE001 - the test looks at it
            return error

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(run, calls))


# -- joins
def test_last_members_of_a_join_that_finish_together_queue_it_exactly_once(kit: Kit) -> None:
    """Rule 5: 30 joins of four members; none stuck, none queued twice."""
    sessions, members = [], ("a", "b", "c", "d")
    for _ in range(30):
        sessions.append(kit.start([*queued(*members), *joins(j=4)], total=6))
    claims = {(session, step): kit.claim(session, step) for session in sessions for step in members}
    gate = threading.Barrier(4)

    def finish(step: str) -> list[tuple[str, ...]]:
        ready = []
        for session in sessions:
            gate.wait()
            ready.append(kit.end(claims[session, step], arrivals={"j": 1}).ready)
        return ready

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(finish, members))

    for number, session in enumerate(sessions):
        assert sorted(ready[number] for ready in found) == [(), (), (), ("j",)]
        row = kit.row(session, "j")
        assert (row["status"], row["needs_left"], row["sends"]) == ("queued", 0, 1)
        assert kit.head(session)["version"] == 5
        kit.check(session)


def test_two_checkpoints_of_one_session_lose_no_version(kit: Kit) -> None:
    """R38: no lost update."""
    names = [f"s{number}" for number in range(24)]
    session = kit.start(queued(*names))
    claims = [kit.claim(session, name) for name in names]

    def finish(mine: Sequence[ClaimedStep]) -> list[int]:
        return [kit.end(claimed).version for claimed in mine]

    parts = at_once(*(partial(finish, claims[part::4]) for part in range(4)))
    assert sorted(chain(*parts)) == list(range(2, 26))
    head = kit.head(session)
    assert (head["version"], head["open_steps"], head["current_step"]) == (25, 0, 24)


# -- claims
def test_two_claims_at_once_and_exactly_one_wins(kit: Kit) -> None:
    """Rule 2."""
    for _ in range(20):
        key = StepKey(kit.start(), "a")

        def claim(token: str, key: StepKey = key) -> ClaimedStep | None:
            return kit.store.claim(key, attempt=1, token=token, worker=token, runner="r")

        found = at_once(*(partial(claim, f"t{number}") for number in range(4)))
        (winner,) = [one for one in found if one is not None]
        assert kit.row(key.session_id)["token"] == kit.row(key.session_id)["worker"] == winner.token


def test_many_starts_of_one_id_make_one_session(kit: Kit) -> None:
    """R12: never a second row."""
    for number in range(8):
        name = f"same-{number}"
        found = at_once(*(partial(kit.start, session_id=name) for _ in range(4)))
        assert sorted(type(one).__name__ for one in found) == ["SessionConflict"] * 3 + ["str"]
        assert kit.statuses(name) == {"a": "queued"}


def test_many_starts_with_one_idempotency_key_make_one_session(kit: Kit) -> None:
    for number in range(8):
        key = f"key-{number}"
        found = at_once(*(partial(kit.start, idempotency_key=key) for _ in range(4)))
        (session,) = [one for one in found if isinstance(one, str)]
        others = [one for one in found if not isinstance(one, str)]
        assert all(isinstance(one, SessionConflict) and session in one.message for one in others)
    assert len(kit.column(tables.sessions.c.session_id)) == 8


def test_many_first_starts_of_one_definition_store_it_once(kit: Kit) -> None:
    for number in range(8):
        digest = str(number) * 64
        found = at_once(*(partial(kit.start, digest=digest) for _ in range(4)))
        assert all(isinstance(one, str) for one in found), found
    assert len(kit.column(tables.definitions.c.digest)) == 8


def test_a_prune_that_forgets_a_definition_does_not_break_a_start_that_uses_it(kit: Kit) -> None:
    for number in range(8):
        digest = str(number) * 64
        kit.store.delete_session(kit.start(digest=digest))
        kit.clock.forward(3601)
        started, forgotten = at_once(
            partial(kit.start, digest=digest),
            lambda: kit.store.forget_definitions(),
        )
        assert isinstance(started, str), started
        assert isinstance(forgotten, int), forgotten
        assert kit.store.definition(digest)["digest"] == digest


# -- zombies
def test_a_release_and_a_checkpoint_at_once_and_exactly_one_wins(kit: Kit) -> None:
    """Rule 2: the step is recorded once or runs again, never both."""
    wins = set()
    for _ in range(20):
        session = kit.start(total=2)
        claimed, orphan = kit.claim(session), kit.orphan(session)
        moved, released = at_once(
            partial(kit.end, claimed, "b"),
            partial(kit.store.release, orphan, error=None),
        )
        wins.add(released)
        if released:
            assert isinstance(moved, ClaimLost)
            assert kit.statuses(session) == {"a": "queued"}
            assert (kit.head(session)["version"], kit.row(session)["attempt"]) == (1, 2)
        else:
            assert moved.version == 2
            assert kit.statuses(session) == {"a": "succeeded", "b": "queued"}
            assert kit.store.attempts(session) == []
        kit.check(session)
    assert wins


def test_a_release_and_a_failure_at_once_and_exactly_one_wins(kit: Kit) -> None:
    for number in range(20):
        session = kit.start()
        claimed, orphan = kit.claim(session), kit.orphan(session)
        delay = None if number % 2 else 0.0
        moved, released = at_once(
            partial(kit.fail, claimed, delay),
            partial(kit.store.release, orphan, error=None),
        )
        assert released in (True, False), released
        assert isinstance(moved, ClaimLost) == released, (moved, released)
        (attempt,) = kit.store.attempts(session)
        assert attempt["kind"] == ("crash" if released else "failure")
        assert kit.head(session)["version"] == (1 if released else 2)
        kit.check(session)


@pytest.fixture
def servers_only(kit: Kit) -> None:
    if kit.database.family == "sqlite":
        pytest.skip("SQLite has one writer: nobody changes a row while another waits")


@pytest.mark.usefixtures("servers_only")
def test_a_zombie_that_waits_for_the_heads_lock_while_its_step_is_taken_is_refused(kit: Kit) -> None:
    """Rule 2: its statement had begun while the token was still its own; nothing of its half is written."""
    for follower in ("b", None):  # through the checkpoint and through a failure
        session = kit.start([*queued("a"), *joins(j=2)], total=4)
        late, orphan = kit.claim(session), kit.orphan(session)
        lock = select(tables.heads.c.version).where(tables.heads.c.session_id == session).with_for_update()
        outcome: list[Any] = []

        def write(late: ClaimedStep = late, follower: str | None = follower, outcome: list[Any] = outcome) -> None:
            try:
                if follower:
                    outcome.append(kit.end(late, follower, arrivals={"j": 1}))
                else:
                    outcome.append(kit.fail(late))
            except ClaimLost as error:
                outcome.append(error)

        zombie = threading.Thread(target=write)

        def hold(conn: Any, lock: Any = lock, zombie: threading.Thread = zombie, orphan: Any = orphan) -> None:
            conn.execute(lock)
            zombie.start()
            until(lambda: somebody_waits(kit))
            assert kit.store.release(orphan, error=None)
            kit.claim(orphan.key.session_id, token="new")

        kit.database.transaction(hold)
        zombie.join(20)
        assert isinstance(outcome[0], ClaimLost), outcome
        assert kit.head(session)["version"] == 1
        assert kit.statuses(session) == {"a": "running", "j": "pending"}
        assert (kit.row(session)["token"], kit.row(session, "j")["needs_left"]) == ("new", 2)
        kit.check(session)


def somebody_waits(kit: Kit) -> bool:
    question = {
        "postgresql": "SELECT count(*) FROM pg_stat_activity"
        " WHERE wait_event_type = 'Lock' AND datname = current_database()",
        "mysql": "SELECT count(*) FROM information_schema.innodb_trx t"
        " JOIN information_schema.processlist p ON p.id = t.trx_mysql_thread_id"
        " WHERE t.trx_state = 'LOCK WAIT' AND p.db = database()",
    }[kit.database.family]
    with kit.database.read() as conn:
        return bool(conn.execute(text(question)).scalar())


def until(what: Callable[[], bool], patience: float = 20.0) -> None:
    give_up_at = time.monotonic() + patience
    while not what():
        assert time.monotonic() < give_up_at
        time.sleep(0.15)  # MariaDB's table of waits is not renewed for who looks more often


# -- cancel, settle
def test_a_cancel_and_a_checkpoint_at_once_leave_nothing_queued(kit: Kit) -> None:
    """Rule 4: whichever has the head first, no step is queued that nobody cancels."""
    for _ in range(20):
        session = kit.start([*queued("a", "b"), *joins(j=2)], total=5)
        claimed = kit.claim(session)
        moved, found = at_once(
            partial(kit.end, claimed, "c", arrivals={"j": 1}),
            partial(kit.store.halt, session, Halt.CANCELLED, "enough"),
        )
        assert found == "active"
        assert moved.halt in (None, "cancelled")
        assert kit.statuses(session) == {"a": "succeeded", "b": "pending", "c": "pending", "j": "pending"}
        assert kit.head(session)["version"] == 3
        assert sorted(one for one in at_once(*[partial(kit.store.settle, session)] * 2) if one) == ["cancelled"]
        kit.check(session)


def test_a_suspension_and_a_recovery_at_once_leave_nothing_queued_in_the_end(kit: Kit) -> None:
    """Rule 4: a release locks no head; what it queues in a session that halts is parked when that settles."""
    for _ in range(20):
        session = kit.start(queued("a", "b"))
        kit.claim(session)
        orphan = kit.orphan(session)

        def suspend(session: str = session) -> Any:
            kit.store.halt(session, Halt.SUSPENDED, "operator")
            return kit.store.settle(session)

        at_once(suspend, partial(kit.store.release, orphan, error=None))
        if kit.row(session)["status"] == "running":
            assert kit.store.park(kit.orphan(session), reason=None)
        kit.store.settle(session)
        assert kit.head(session)["status"] == "suspended"
        assert kit.statuses(session) == {"a": "pending", "b": "pending"}
        assert kit.row(session)["attempt"] == 2
        kit.check(session)


def test_a_session_is_completed_by_one_of_many(kit: Kit) -> None:
    for _ in range(8):
        session = kit.start()
        kit.run(session)
        calls = [partial(kit.store.settle, session, output=f'"{n}"') for n in range(4)]
        found = at_once(*calls)
        (winner,) = [number for number, one in enumerate(found) if one is not None]
        assert kit.store.session(session)["output"] == f'"{winner}"'
        assert kit.head(session)["version"] == 3


def test_two_resumes_at_once_queue_a_step_once(kit: Kit) -> None:
    for _ in range(8):
        session = kit.start()
        kit.fail(kit.claim(session))
        kit.store.settle(session)
        found = at_once(*[partial(kit.store.revive, session)] * 3)
        assert sorted((str(status), len(steps)) for status, steps in found) == [("active", 0)] * 2 + [("failed", 1)]
        assert (kit.row(session)["attempt"], kit.row(session)["epoch"]) == (2, 1)
        kit.check(session)


# -- sweeps
def test_two_recoveries_release_one_orphan_once(kit: Kit) -> None:
    """Rule 6."""
    for _ in range(20):
        session = kit.start()
        kit.claim(session)
        (orphan,) = kit.store.orphans(silent_for=None)
        found = at_once(*[partial(kit.store.release, orphan, error=None)] * 3)
        assert sorted(found, key=str) == [False, False, True]
        assert (kit.row(session)["attempt"], kit.row(session)["crashes"]) == (2, 1)
        assert len(kit.store.attempts(session)) == 1
        kit.store.delete_session(session)


def test_two_sweeps_at_once_send_a_due_step_once(kit: Kit) -> None:
    """Rule 6."""
    for _ in range(5):
        names = [f"s{number}" for number in range(30)]
        kit.start(queued(*names))
        kit.clock.forward(60)
        found = at_once(*[partial(kit.store.take_due, worker="w", first=3600)] * 4)
        assert sorted(step.key.step for part in found for step in part) == sorted(names)


def test_many_who_begin_a_sweep_at_once_and_one_does_it(kit: Kit) -> None:
    """STYLE 12."""
    for round_ in range(8):
        assert sorted(at_once(*[partial(kit.store.begin_sweep, "timers", 5.0)] * 4)) == [False] * 3 + [True], round_
        kit.clock.forward(5)


def test_many_prunes_at_once_delete_a_session_once(kit: Kit) -> None:
    sessions = [kit.start() for _ in range(20)]
    for session in sessions:
        kit.run(session)
        kit.complete(session)
    kit.clock.forward(days=8)

    def prune() -> int:
        pruning = kit.store.pruning(Rules(ages={"completed": timedelta(days=7)}, keep_last=0), batch=3)
        return sum(len(pruning.delete(trees)) for trees in pruning.batches())

    found = at_once(prune, prune, prune)
    assert sum(found) == 20, found
    assert kit.column(tables.steps.c.session_id) == []


def test_a_session_is_either_resumed_or_deleted_and_either_kept_or_pruned(kit: Kit) -> None:
    """D9, D10, R118: whoever comes second finds what the first one did."""
    for _ in range(8):
        session = kit.start()
        kit.store.halt(session, Halt.SUSPENDED, "operator")
        kit.store.settle(session)
        revived, deleted = at_once(
            partial(kit.store.revive, session),
            partial(kit.store.delete_tree, session, lambda tree, session=session: refuse(session, tree)),
        )
        there = session in kit.column(tables.heads.c.session_id)
        assert isinstance(deleted, SessionConflict) if there else isinstance(revived, SessionNotFound)
        assert (deleted == [session]) is not there

        ended = kit.start()
        kit.run(ended)
        kit.complete(ended)
        pruning = kit.store.pruning(Rules(ages={"completed": timedelta(0)}, keep_last=0), batch=9)
        kit.clock.forward(1)
        (trees,) = pruning.batches()
        pinned, gone = at_once(partial(kit.store.pin, ended, True), partial(pruning.delete, trees))
        there = ended in kit.column(tables.heads.c.session_id)
        assert (pinned is True) is there
        assert (len(gone) == 1) is not there


def test_a_session_is_deleted_while_a_step_of_it_ends(kit: Kit) -> None:
    for _ in range(10):
        session = kit.start([*queued("a", "b"), *joins(j=1)], total=4)
        claimed = kit.claim(session)
        _, deleted = at_once(
            partial(kit.end, claimed, "c", arrivals={"j": 1}),
            partial(kit.store.delete_session, session),
        )
        assert deleted is None
        assert kit.column(tables.steps.c.session_id) == []
        assert kit.column(tables.heads.c.session_id) == []


# -- lost answers
Step = Callable[[Kit, str], Any]


def _claim(kit: Kit, session: str) -> Any:
    return kit.store.claim(StepKey(session, "a"), attempt=1, token="mine", worker="w", runner="r", timeout=9.0)


@pytest.mark.parametrize("times", [1, 2])
def test_a_claim_whose_answer_was_lost_is_ours(kit: Kit, times: int) -> None:
    """Rule 2. One loss is healed within the call, a second shows as an error; the same token is recognised."""
    session = kit.start()
    with lost_answers(times) as lost:
        if times == 2:
            with pytest.raises(StoreUnavailable):
                _claim(kit, session)
        claimed = _claim(kit, session)

    assert len(lost) == times
    assert claimed is not None
    assert (claimed.token, claimed.attempt) == ("mine", 1)
    assert kit.row(session)["token"] == "mine"
    assert kit.end(claimed).version == 2


def test_a_checkpoint_whose_answer_was_lost_was_made_once(kit: Kit) -> None:
    """D11: recorded exactly once."""
    session = kit.start([*queued("a"), *joins(j=1)], total=3)
    done = kit.done(kit.claim(session), "b", arrivals={"j": 1})
    with lost_answers(1) as lost:
        moved = kit.store.checkpoint(done)

    assert len(lost) == 1
    assert (moved.version, moved.open_steps, moved.ready) == (2, 2, ("j",))
    assert (kit.head(session)["version"], kit.row(session, "j")["needs_left"]) == (2, 0)
    kit.check(session)


@pytest.mark.parametrize("delay", [None, 0.0, 7.0])
def test_a_failure_whose_answer_was_lost_was_counted_once(kit: Kit, delay: float | None) -> None:
    session = kit.start(queued("a", "b"))
    what = kit.setback(kit.claim(session), delay)
    with lost_answers(1) as lost:
        assert kit.store.setback(what).version == 2

    assert len(lost) == 1
    assert kit.row(session)["failures"] == 1
    assert len(kit.store.attempts(session)) == 1
    kit.check(session)


def test_a_start_whose_answer_was_lost_made_one_session(kit: Kit) -> None:
    """Rule 2: start() bears a nonce for the same reason."""
    new = new_session(idempotency_key="k")
    with lost_answers(1) as lost:
        assert kit.store.start(new, queued("a"))

    assert len(lost) == 1
    assert kit.column(tables.sessions.c.session_id) == [new.session_id]


@pytest.mark.parametrize("name", ["halt", "settle", "revive", "release", "park", "take_due", "worker", "sweep"])
def test_other_writes_whose_answers_were_lost_do_no_harm(kit: Kit, name: str) -> None:
    session = kit.start(queued("a", "b"))
    if name in ("release", "park"):
        kit.claim(session)
        orphan = kit.orphan(session)
    if name in ("settle", "revive"):
        kit.store.halt(session, Halt.SUSPENDED, "operator")
    if name == "revive":
        kit.store.settle(session)
    kit.clock.forward(60)
    calls: dict[str, Callable[[], Any]] = {
        "halt": lambda: kit.store.halt(session, Halt.SUSPENDED, "operator"),
        "settle": lambda: kit.store.settle(session),
        "revive": lambda: kit.store.revive(session),
        "release": lambda: kit.store.release(orphan, error=None),
        "park": lambda: kit.store.park(orphan, reason=SuspendReason.POISONED),
        "take_due": lambda: kit.store.take_due(worker="w", first=60),
        "worker": lambda: kit.store.add_worker(worker_row("w")),
        "sweep": lambda: kit.store.begin_sweep("timers", 5.0),
    }
    with lost_answers(1) as lost:
        calls[name]()
    assert lost
    kit.check(session)
    ended = {"halt": "pending", "settle": "pending", "revive": "queued", "release": "queued", "park": "pending"}
    assert kit.row(session)["status"] == ended.get(name, "queued")
    assert kit.row(session)["attempt"] == (2 if name in ("release", "park") else 1)


# -- deadlocks
def scenario(kit: Kit) -> str:
    """A session in which everything can happen next: a runs, b failed once and waits, c is queued."""
    session = kit.start([*queued("a", "b", "c"), *joins(j=1)], total=6)
    kit.claim(session, "a", token="mine", worker="w1")
    kit.fail(kit.claim(session, "b"), 1.0)
    return session


def outcome(kit: Kit, session: str) -> Any:
    """All that a transaction may have changed."""
    hidden = {"session_id", "token", "nodename"}
    head = dict(kit.head(session))
    rows = [{name: value for name, value in row.items() if name not in hidden} for row in kit.store.steps(session)]
    attempts = [(row["step"], row["attempt"], row["kind"], row["version"]) for row in kit.store.attempts(session)]
    return head, rows, attempts, [row["action"] for row in kit.store.actions(session)]


def _running(kit: Kit, session: str) -> ClaimedStep:
    return ClaimedStep(
        key=StepKey(session, "a"), token="mine", attempt=1, call=None, failures=0, retries=0, crashes=0, task="t"
    )


WRITES: dict[str, Step] = {
    "claim": lambda kit, s: kit.store.claim(StepKey(s, "c"), attempt=1, token="t", worker="w", runner="r"),
    "checkpoint": lambda kit, s: kit.end(_running(kit, s), "d", arrivals={"j": 1}, skips=["e"]),
    "failure": lambda kit, s: kit.fail(_running(kit, s), 5.0),
    "final failure": lambda kit, s: kit.fail(_running(kit, s)),
    "release": lambda kit, s: kit.store.release(kit.orphan(s), error=None, silent_for=15),
    "park": lambda kit, s: kit.store.park(kit.orphan(s), reason=SuspendReason.POISONED),
    "halt": lambda kit, s: kit.store.halt(s, Halt.CANCELLED, "x", Action(action="cancel")),
    "cancelled": lambda kit, s: (
        kit.store.halt(s, Halt.CANCELLED, "x"),
        kit.store.park(kit.orphan(s), reason=None),
        kit.store.settle(s),
    ),
    "revive": lambda kit, s: (kit.fail(_running(kit, s)), kit.store.settle(s), kit.store.revive(s)),
    "take_due": lambda kit, s: kit.store.take_due(worker="w", first=60),
    "wake oldest": lambda kit, s: kit.store.wake_oldest(9),
    "wake later": lambda kit, s: kit.store.wake_later(StepKey(s, "c"), 7.0),
    "start": lambda kit, s: kit.start([*queued("x"), *joins(y=2)], session_id=f"{s}x"),
    "delete": lambda kit, s: kit.store.delete_session(f"{s}"),
}


@pytest.mark.parametrize("name", WRITES)
def test_a_deadlock_at_any_statement_changes_nothing_of_the_outcome(kit: Kit, name: str) -> None:
    """Rule 4, R81: the whole transaction is tried again, and no half of it stays."""
    write = WRITES[name]

    def run(position: int | None) -> Any:
        session = scenario(kit)
        kit.clock.forward(90)
        if position is None:
            with watched() as traffic:
                write(kit, session)
        else:
            with deadlock_at(position) as refused:
                write(kit, session)
            assert refused
        left = None if name == "delete" else outcome(kit, session)
        assert name != "delete" or session not in kit.column(tables.heads.c.session_id)
        kit.clock.forward(-90)
        kit.store.delete_session(session)
        kit.store.delete_session(f"{session}x")
        return len(traffic.statements) if position is None else None, left

    count, expected = run(None)
    reads = {"release", "park", "cancelled", "take_due", "wake oldest"}  # these look first
    for position in range(count):
        try:
            _, found = run(position)
        except StoreUnavailable:
            assert name in reads, (name, position)  # a lone read is not a transaction; its caller asks again
            for session in kit.column(tables.sessions.c.session_id):
                kit.store.delete_session(session)
            kit.clock.forward(-90)
            continue
        assert found == expected, (name, position)


@pytest.mark.usefixtures("servers_only")
def test_a_real_deadlock_ends_well_for_both(kit: Kit) -> None:
    """Rule 4: 40P01, 1213: retried, bounded, with jitter."""
    one, two = kit.start(), kit.start()
    meet = threading.Barrier(2)
    tries: list[str] = []

    def both(first: str, second: str) -> None:
        def work(conn: Any) -> None:
            tries.append(first)
            for number, session in enumerate((first, second)):
                bump = update(tables.heads).where(tables.heads.c.session_id == session)
                conn.execute(bump.values(version=tables.heads.c.version + 1))
                if number == 0 and len(tries) <= 2:
                    with suppress(threading.BrokenBarrierError):
                        meet.wait(5)

        kit.database.transaction(work)

    assert at_once(lambda: both(one, two), lambda: both(two, one)) == [None, None]
    assert len(tries) == 3, "one of the two was refused once"
    assert [kit.head(session)["version"] for session in (one, two)] == [3, 3]


def test_a_connection_that_is_lost_in_the_middle_is_replaced(contract_url: str, kit: Kit) -> None:
    """DESIGN 2: the whole transaction again on a new connection."""
    session = kit.start(total=2)
    done = kit.done(kit.claim(session), "b")
    database = Database(contract_url)
    count = [0]

    def before(_conn: Any, _cursor: Any, statement: str, *_more: Any) -> None:
        if "session_steps" in statement and count[0] == 0:
            count[0] += 1
            raise connection_lost()

    event.listen(Engine, "before_cursor_execute", before)
    try:
        kit.store.database = database
        assert kit.store.checkpoint(done).version == 2
    finally:
        event.remove(Engine, "before_cursor_execute", before)
        kit.store.database = kit.database
        database.dispose()
    assert count == [1]
    kit.check(session)


def test_a_resume_between_recovery_s_look_and_its_parking_leaves_no_step_parked(kit: Kit) -> None:
    """Rule 6: recovery saw a session that halts; an operator resumed it before the orphan was parked."""
    kit.store.add_worker(worker_row("w1"))
    kit.store.stop_worker("w1")
    session = kit.start(queued("a"))
    kit.claim(session, worker="w1")
    kit.store.halt(session, Halt.SUSPENDED, "operator")
    (orphan,) = kit.store.orphans(silent_for=None)
    kit.store.revive(session, None, worker="w2")
    assert not kit.store.park(orphan, reason=None)
    assert kit.row(session)["status"] == "running"  # an orphan still: the next sweep releases it
    (again,) = kit.store.orphans(silent_for=None)
    assert again.halt is None
    assert kit.store.release(again, error=None)
    assert kit.row(session)["status"] == "queued"
