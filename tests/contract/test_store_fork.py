"""fork: a new session with rows of another in one transaction; of the other no row changes."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any

import pytest
from sqlalchemy import insert, select, update

from celery_cascade.errors import SessionConflict, SessionNotFound
from celery_cascade.persistence import tables
from celery_cascade.persistence.fork import NewFork
from celery_cascade.persistence.head import Action
from celery_cascade.persistence.models import Base
from celery_cascade.persistence.rows import NewSession, NewStep
from contract.kit import NOON, Kit, joins, new_session, queued


def say(kit: Kit, session: str, seq: int, content: str, *, version: int, step: str | None = None) -> None:
    row = {"session_id": session, "seq": seq, "role": "user", "content": content, "version": version, "step": step}
    kit.database.transaction(lambda conn: conn.execute(insert(tables.messages), row | {"created_at": NOON}))


def said(kit: Kit, session: str) -> list[tuple[int, str, str | None, int]]:
    columns = tables.messages.c
    statement = select(columns.seq, columns.content, columns.step, columns.version).where(columns.session_id == session)
    with kit.database.read() as conn:
        return [tuple(row) for row in conn.execute(statement.order_by(columns.seq))]


def rows_of(kit: Kit, *sessions: str) -> dict[str, list[str]]:
    """Every row of every table that belongs to these sessions, as it stands."""
    found = {}
    with kit.database.read() as conn:
        for table in Base.metadata.sorted_tables:
            if "session_id" in table.c:
                rows = conn.execute(select(table).where(table.c.session_id.in_(sessions)))
                found[table.name] = sorted(repr(tuple(row)) for row in rows)
    return found


def order(kit: Kit, **new: Any) -> str:
    """a, then b and c, then their join d, which has failed; each said something, and somebody else did between."""
    session = kit.start([*queued("a"), *joins(d=2)], total=4, **new)
    kit.run(session, "a", "b", "c", output='"of a"')
    kit.run(session, "b", arrivals={"d": 1}, output='"of b"')
    kit.run(session, "c", arrivals={"d": 1}, output='"of c"', status="succeeded")
    kit.fail(kit.claim(session, "d"))
    kit.store.settle(session)
    for seq, (step, version) in enumerate([("a", 2), (None, 2), ("b", 3), (None, 3), ("c", 4)], 1):
        say(kit, session, seq, json.dumps(f"by {step or 'ann'} at {version}"), version=version, step=step)
    return session


def fork(
    kit: Kit,
    origin: str,
    kept: Collection[str],
    rows: list[NewStep],
    *,
    new: NewSession | None = None,
    **more: Any,
) -> str:
    found = kit.store.origin(origin)
    closed = len(kept) + sum(row.status == "skipped" for row in rows)
    new = new or new_session(total=4, closed_steps=closed, trigger="fork")
    values: dict[str, Any] = {"step": "b", "version": 2, "done": len(kept)}
    kit.store.fork(new, NewFork(origin=found, kept=kept, **(values | more)), rows, worker="w9")
    return new.session_id


AT_B = [*queued("b"), *joins(d=1)]


def test_no_row_of_the_origin_changes(kit: Kit) -> None:
    """R100, R132: byte for byte, in every table, on every database; nor does what the fork does later change one."""
    origin = order(kit, thread_id="t", resource_id="ann")
    kit.store.write_context(origin, version=kit.head(origin)["version"], value={"n": 1}, delta='[["set",["n"],1]]')
    before = rows_of(kit, origin)
    kit.clock.forward(60)

    new = new_session(total=4, closed_steps=2, context='{"n":2}', tags='["x"]')
    taken = fork(kit, origin, {"a", "c"}, AT_B, new=new, turns=[origin])
    kit.run(taken, "b", arrivals={"d": 1})
    kit.run(taken, "d")
    kit.complete(taken)

    assert rows_of(kit, origin) == before
    kit.check(origin)
    kit.check(taken)


def test_kept_steps_are_there_with_what_they_gave_and_bear_the_first_version(kit: Kit) -> None:
    """R132."""
    origin = order(kit)
    kit.clock.forward(60)

    taken = fork(kit, origin, {"a", "c"}, AT_B)

    rows, old = kit.rows(taken), kit.rows(origin)
    assert kit.statuses(taken) == {"a": "succeeded", "b": "queued", "c": "succeeded", "d": "pending"}
    for step in ("a", "c"):
        for column in ("output", "call", "task", "attempt", "worker", "started_at", "finished_at"):
            assert rows[step][column] == old[step][column], column
        assert (rows[step]["reason"], rows[step]["version"], rows[step]["token"]) == ("kept", 1, None)
    assert (rows["b"]["worker"], rows["d"]["needs_left"], rows["b"]["version"]) == ("w9", 1, 1)
    head = kit.head(taken)
    assert (head["status"], head["version"], head["open_steps"], head["current_step"]) == ("active", 1, 2, 2)
    assert head["started_at"] == kit.clock.moment
    row = kit.store.session(taken)
    assert (row["forked_from"], row["forked_step"], row["forked_version"]) == (origin, "b", 2)
    kit.check(taken)


def test_a_skipped_step_keeps_why_it_was_skipped(kit: Kit) -> None:
    origin = kit.start(queued("a"), total=3)
    kit.run(origin, "a", "b", skips=["never"])
    kit.run(origin, "b")

    taken = fork(kit, origin, {"a", "never"}, queued("b"), new=new_session(total=3, closed_steps=2))

    row = kit.row(taken, "never")
    assert (row["status"], row["reason"], row["version"]) == ("skipped", "when", 1)
    kit.check(taken)


@pytest.mark.parametrize("kept", [{"a"}, {"a", "b"}, {"a", "b", "c"}, set()])
def test_whatever_is_kept_exactly_that_is_copied(kit: Kit, kept: set[str]) -> None:
    """The shorter list is sent, of what is kept or of what is not."""
    origin = order(kit)

    taken = fork(kit, origin, kept, [])

    assert set(kit.rows(taken)) == kept


def test_what_was_said_up_to_the_fork_comes_along_and_what_kept_steps_said(kit: Kit) -> None:
    """R100: b runs again and c is kept."""
    origin = order(kit)

    taken = fork(kit, origin, {"a", "c"}, AT_B, turns=[origin])
    without = fork(kit, origin, {"a", "c"}, AT_B)

    assert said(kit, taken) == [(1, '"by a at 2"', "a", 1), (2, '"by ann at 2"', None, 1), (3, '"by c at 4"', "c", 1)]
    assert said(kit, without) == []


def test_all_earlier_turns_of_the_conversation_come_along_in_their_order(kit: Kit) -> None:
    """R100: what was said before is nobody's step any more, so no later fork can lose it."""
    first = kit.start(session_id="zzz-first")
    say(kit, first, 1, '"one"', version=1)
    say(kit, first, 2, '"two"', version=2, step="a")
    origin = order(kit, session_id="mmm-second")
    other = kit.start(session_id="aaa-later")
    say(kit, other, 1, '"too late"', version=1)

    def turns(conn: Any) -> None:
        for number, session in enumerate((origin, other), 1):
            conn.execute(
                update(tables.sessions)
                .where(tables.sessions.c.session_id == session)
                .values(conversation_id=first, turn=number)
            )

    kit.database.transaction(turns)
    assert set(kit.store.turns(origin)) == {first, origin}
    assert kit.store.turns(first) == [first]

    taken = fork(kit, origin, {"a"}, [*queued("b", "c"), *joins(d=2)], turns=kit.store.turns(origin))

    assert said(kit, taken) == [
        (1, '"one"', None, 1),
        (2, '"two"', None, 1),
        (3, '"by a at 2"', "a", 1),
        (4, '"by ann at 2"', None, 1),
    ]
    assert kit.store.turns(taken) == [taken], "its conversation is its own"


def test_the_context_is_a_change_of_the_first_version(kit: Kit) -> None:
    """R132: the fork's context is its own from there on."""
    origin = order(kit)

    taken = fork(kit, origin, {"a"}, AT_B, new=new_session(total=4, closed_steps=1, context='{"n":1,"list":[1]}'))

    assert kit.store.context(taken) == (1, {"n": 1, "list": [1]})
    assert kit.store.context(origin)[1] == {}
    with kit.database.read() as conn:
        (row,) = conn.execute(select(tables.context_changes)).mappings()
    assert (row["session_id"], row["version"], row["step"], row["set_at"]) == (taken, 1, None, NOON)


def test_who_made_it_is_recorded_with_the_fork(kit: Kit) -> None:
    """R135."""
    taken = fork(kit, order(kit), {"a"}, AT_B, action=Action(action="fork", actor="ann", reason="why not"))

    (row,) = kit.store.actions(taken)
    assert (row["action"], row["actor"], row["reason"], row["version"]) == ("fork", "ann", "why not", 1)


def test_the_same_nonce_twice_is_one_fork_and_no_error(kit: Kit) -> None:
    """Rule 2: a commit whose answer was lost is recognised."""
    origin, new = order(kit), new_session("again", total=4, closed_steps=1)

    assert fork(kit, origin, {"a"}, AT_B, new=new) == fork(kit, origin, {"a"}, AT_B, new=new)

    assert kit.column(tables.sessions.c.session_id).count("again") == 1


def test_a_taken_id_is_a_conflict_and_nothing_is_written(kit: Kit) -> None:
    """R12."""
    origin = order(kit)
    before = rows_of(kit, origin)

    with pytest.raises(SessionConflict, match=f"{origin} exists already"):
        fork(kit, origin, {"a"}, AT_B, new=new_session(origin, total=4))

    assert rows_of(kit, origin) == before
    assert len(kit.column(tables.sessions.c.session_id)) == 1


def test_a_fork_of_what_is_gone_is_refused(kit: Kit) -> None:
    origin = order(kit)
    found = kit.store.origin(origin)
    kit._empty()

    with pytest.raises(SessionNotFound):
        kit.store.origin(origin)
    with pytest.raises(SessionNotFound):
        kit.store.fork(new_session(total=4), NewFork(origin=found, kept={"a"}), AT_B)
    assert kit.column(tables.sessions.c.session_id) == []


def test_what_ends_in_the_origin_after_the_look_is_not_copied(kit: Kit) -> None:
    """Of an active session: the fork is of the moment at which it was read."""
    origin = kit.start(queued("a", "b"))
    kit.run(origin, "a")
    found = kit.store.origin(origin)
    kit.run(origin, "b")

    new = new_session(total=2, closed_steps=1)
    kit.store.fork(new, NewFork(origin=found, kept={"a"}), queued("b"))

    assert kit.statuses(new.session_id) == {"a": "succeeded", "b": "queued"}


def test_steps_that_are_no_longer_as_they_were_read_are_not_made_up(kit: Kit) -> None:
    """Somebody with a SQL client has deleted one."""
    origin = order(kit)
    found = kit.store.origin(origin)
    steps = tables.steps
    kit.database.transaction(lambda conn: conn.execute(steps.delete().where(steps.c.step == "c")))

    with pytest.raises(SessionConflict, match="1 of 2 finished steps could be copied"):
        kit.store.fork(new_session(total=4), NewFork(origin=found, kept={"a", "c"}), AT_B)
    assert len(kit.column(tables.sessions.c.session_id)) == 1


def test_a_fork_takes_a_thread_of_its_own_and_leaves_the_origin_s(kit: Kit) -> None:
    """R100."""
    origin = order(kit, thread_id="t", resource_id="ann")
    new = new_session(total=4, closed_steps=1, thread_id="other", resource_id="ann")

    taken = fork(kit, origin, {"a"}, AT_B, new=new)

    with kit.database.read() as conn:
        found = {row.thread_id: row.session_id for row in conn.execute(select(tables.mappings))}
    assert found == {"t": origin, "other": taken}
    assert kit.store.session(taken)["continues"] is None
    with pytest.raises(SessionConflict, match="'other' of 'ann' is in session"):
        fork(kit, origin, {"a"}, AT_B, new=new_session(total=4, thread_id="other", resource_id="ann"))
