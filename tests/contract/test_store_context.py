"""A session's context and what was said in it: each change once, in the transaction that it belongs to."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import insert, select, update

from celery_cascade.deltas import context_at, diff, written
from celery_cascade.errors import ClaimLost, SessionConflict, SessionNotFound, StaleState
from celery_cascade.persistence import context, tables
from celery_cascade.persistence.head import Action, lock, move
from celery_cascade.persistence.messages import add_messages
from celery_cascade.persistence.models import SessionState
from celery_cascade.persistence.orm_session import StoreSession
from celery_cascade.persistence.rows import NewMessage
from celery_cascade.states import Halt
from contract.kit import NOON, Kit, joins, queued


@pytest.fixture
def crowd(kit: Kit) -> Iterator[Kit]:
    """For several threads; their connections go with them, and later tests find one, as always."""
    yield kit
    kit.database.dispose()


def delta(old: Any, new: Any) -> str:
    return written(diff(old, new))


def said(content: Any, role: str = "user", **extra: Any) -> NewMessage:
    return NewMessage(role=role, content=json.dumps(content), extra=json.dumps(extra) if extra else None)


def set_to(kit: Kit, session: str, new: dict[str, Any], **more: Any) -> int:
    version, old = kit.store.context(session)
    return kit.store.write_context(session, version=version, value=new, delta=delta(old, new), **more)


def head_of(kit: Kit, session: str) -> Any:
    with kit.database.read() as conn:
        return conn.execute(select(tables.heads).where(tables.heads.c.session_id == session)).one()


def contents(kit: Kit, session: str) -> list[tuple[int, Any, str | None, int]]:
    return [(m["seq"], json.loads(m["content"]), m["step"], m["version"]) for m in kit.store.conversation(session)]


def test_a_step_s_change_and_words_are_written_by_its_checkpoint_and_bear_its_version(kit: Kit) -> None:
    """R139, R23: one transaction, one version, the step as the one who did it."""
    session = kit.start(queued("a"), total=2)
    before = kit.head(session)["version"]
    moved = kit.run(
        session,
        "a",
        "b",
        context_delta=delta({}, {"n": 1}),
        messages=[said("hello", "assistant", mood="good"), said("x")],
    )
    assert moved.version == before + 1
    assert kit.store.context(session) == (moved.version, {"n": 1})
    (row,) = kit.store.context_changes(session)
    assert (row["version"], row["step"], row["actor"], row["set_at"]) == (moved.version, "a", None, NOON)
    assert contents(kit, session) == [(1, "hello", "a", moved.version), (2, "x", "a", moved.version)]
    assert json.loads(kit.store.conversation(session)[0]["extra"]) == {"mood": "good"}
    assert kit.row(session, "b")["status"] == "queued"
    kit.check(session)


@pytest.mark.parametrize("more", [{"context_delta": '[["set",["n"],2]]'}, {"messages": [said("late")]}, {}])
def test_a_checkpoint_that_is_refused_by_its_token_writes_neither(kit: Kit, more: dict[str, Any]) -> None:
    """D11: what a zombie changed or said is not there, and what it stood on has not moved."""
    session = kit.start(queued("a"), total=2)
    zombie = kit.claim(session)
    kit.store.release(kit.orphan(session), error=None)
    head = dict(kit.head(session))
    with pytest.raises(ClaimLost):
        kit.end(zombie, "b", **more)
    assert kit.store.context_changes(session) == []
    assert contents(kit, session) == []
    assert dict(kit.head(session)) == head
    kit.run(session, "a", "b", context_delta=delta({}, {"n": 1}), messages=[said("mine")])
    assert kit.store.context(session)[1] == {"n": 1}
    assert [content for _, content, *_ in contents(kit, session)] == ["mine"]


def test_a_checkpoint_whose_answer_was_lost_counts_once(kit: Kit) -> None:
    """D11: the second try finds its own token."""
    session = kit.start(queued("a"), total=2)
    done = kit.done(kit.claim(session), "b", context_delta=delta({}, {"l": [1]}), messages=[said("once")])
    assert kit.store.checkpoint(done).version == kit.store.checkpoint(done).version
    assert kit.store.context(session)[1] == {"l": [1]}
    assert len(contents(kit, session)) == 1


def test_steps_side_by_side_change_what_they_changed_and_nothing_else(kit: Kit) -> None:
    """R139: neither has seen the other's change, and both are kept; a join after them goes on as always."""
    session = kit.start([*queued("a", "b"), *joins(c=2)])
    base = {"n": 0, "x": {"k": 1}, "seen": []}
    set_to(kit, session, base)
    one, other = kit.claim(session, "a"), kit.claim(session, "b")
    kit.end(one, arrivals={"c": 1}, context_delta=delta(base, {"n": 1, "x": {"k": 1, "a": 1}, "seen": ["a"]}))
    moved = kit.end(other, arrivals={"c": 1}, context_delta=delta(base, {"n": 2, "x": {"b": 1}, "seen": ["b"]}))
    assert moved.ready == ("c",)
    assert kit.store.context(session)[1] == {"n": 2, "x": {"a": 1, "b": 1}, "seen": ["a", "b"]}


def test_messages_of_many_writers_get_numbers_without_gap_or_clash(crowd: Kit) -> None:
    """D12: whoever waits for the head's lock counts from what was committed before, not from what he saw first."""
    names = [f"s{number}" for number in range(8)]
    session = crowd.start(queued(*names))
    claims = {name: crowd.claim(session, name) for name in names}
    ready, broken = threading.Barrier(len(names)), []

    def work(name: str) -> None:
        ready.wait(30)
        try:
            crowd.end(claims[name], messages=[said(f"{name}.1"), said(f"{name}.2")])
            crowd.store.say(session, said(f"{name}.3"))
        except Exception as error:  # noqa: BLE001 - told below, in the test's own thread
            broken.append(error)

    threads = [threading.Thread(target=work, args=[name]) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert broken == []
    found = contents(crowd, session)
    assert [seq for seq, *_ in found] == list(range(1, 25))
    assert sorted(content for _, content, *_ in found) == sorted(f"{name}.{n}" for name in names for n in (1, 2, 3))
    for name in names:  # what one checkpoint said stands together
        numbers = [seq for seq, content, *_ in found if content in (f"{name}.1", f"{name}.2")]
        assert numbers[1] == numbers[0] + 1


def test_a_checkpoint_that_waits_for_the_head_sees_the_messages_of_who_held_it(crowd: Kit) -> None:
    """D12: on PostgreSQL a statement that waits for a row goes on with the snapshot from before."""
    session = crowd.start(queued("a"), total=2)
    claimed = crowd.claim(session)
    waiting: list[threading.Thread] = []

    def hold_and_say(conn: Any) -> None:
        found = lock(crowd.database, conn, session)
        thread = threading.Thread(target=lambda: crowd.end(claimed, "b", messages=[said("second")]))
        thread.start()
        waiting.append(thread)
        thread.join(0.3)  # it cannot end before this transaction does
        assert thread.is_alive()
        version = move(conn, session, found, {"clock": NOON})
        add_messages(conn, session, version, [said("first")], {"clock": NOON})

    crowd.database.transaction(hold_and_say)
    waiting[0].join(30)
    assert [(seq, content) for seq, content, *_ in contents(crowd, session)] == [(1, "first"), (2, "second")]


# -- from outside


def test_a_change_from_outside_is_a_version_and_a_row_of_its_own(kit: Kit) -> None:
    """R139, R38: who, when, and to what; a stale one leaves no row."""
    session = kit.start()
    version, _ = kit.store.context(session)
    assert set_to(kit, session, {"n": 1}, actor="ann") == version + 1
    kit.clock.forward(60)
    set_to(kit, session, {"n": 2})
    with pytest.raises(StaleState):
        kit.store.write_context(session, version=version, value={"n": 9}, delta=delta({}, {"n": 9}))
    found = [(r["version"], r["step"], r["actor"], json.loads(r["delta"])) for r in kit.store.context_changes(session)]
    assert found == [
        (version + 1, None, "ann", [["set", ["n"], 1]]),
        (version + 2, None, None, [["set", ["n"], 2]]),
    ]
    times = [row["set_at"] for row in kit.store.context_changes(session)]
    assert (times[1] - times[0]).total_seconds() == 60


def test_the_context_of_every_version_can_be_told(kit: Kit) -> None:
    """R23, R139: what steps and users changed, in their order."""
    session = kit.start(queued("a"), total=3, context='{"begin":[1]}')
    trace = {1: {"begin": [1]}}
    for change in (
        lambda now: set_to(kit, session, now | {"n": 1}),
        lambda now: kit.run(session, "a", "b", context_delta=delta(now, now | {"begin": [1, 2]})),
        lambda now: kit.run(session, "b", "c"),
        lambda now: set_to(kit, session, {"n": 5}),
    ):
        change(kit.store.context(session)[1])
        version, value = kit.store.context(session)
        trace[version] = value
    rows = kit.store.context_changes(session)
    assert {version: context_at(rows, version) for version in trace} == trace
    assert context_at(rows, 0) == {}


def test_what_a_session_begins_with_is_its_change_of_version_1(kit: Kit) -> None:
    """R139, D12: folded already, with the tags of the codec."""
    text = '{"at":{"__type__":"date","__value__":"2030-01-02"},"n":1}'
    session = kit.start(context=text)
    head = head_of(kit, session)
    assert (head.version, head.context_version, head.context_variables["n"]) == (1, 1, 1)
    version, value = kit.store.context(session)
    assert (version, value["at"].isoformat()) == (1, "2030-01-02")
    (row,) = kit.store.context_changes(session)
    assert (row["version"], row["step"]) == (1, None)
    assert context_at([row]) == json.loads(text)
    assert kit.store.context_changes(kit.start()) == []


def test_something_is_said_from_outside(kit: Kit) -> None:
    """R23, D12: it grows the version by one, and its row bears it; a final session takes no more, a failed one does."""
    session = kit.start()
    version = kit.head(session)["version"]
    assert kit.store.say(session, said("hi")) == 1
    assert kit.store.say(session, said("ho"), Action(action="say", actor="ann")) == 2
    assert contents(kit, session) == [(1, "hi", None, version + 1), (2, "ho", None, version + 2)]
    (action,) = kit.store.actions(session)
    assert (action["action"], action["actor"], action["version"]) == ("say", "ann", version + 2)
    failed = kit.start(queued("a"))
    kit.fail(kit.claim(failed))
    kit.store.settle(failed)
    assert kit.head(failed)["status"] == "failed"
    assert kit.store.say(failed, said("again")) == 1
    kit.store.halt(session, Halt.CANCELLED, None)
    kit.store.settle(session)
    with pytest.raises(SessionConflict, match=f"session {session} is cancelled; nothing can be said"):
        kit.store.say(session, said("late"))
    assert len(contents(kit, session)) == 2
    for look in (lambda: kit.store.say("nobody", said("x")), lambda: kit.store.conversation("nobody")):
        with pytest.raises(SessionNotFound):
            look()


def test_a_message_whose_commit_s_answer_was_lost_is_said_once(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    """D11."""
    session = kit.start()
    transaction = kit.database.transaction

    def answer_lost(work: Callable[[Any], Any]) -> Any:
        transaction(work)
        return transaction(work)

    monkeypatch.setattr(kit.database, "transaction", answer_lost)
    assert kit.store.say(session, said("hi")) == 1
    assert len(contents(kit, session)) == 1


def turn(kit: Kit, number: int, continues: str | None, conversation: str | None) -> str:
    """A session that is one turn of a conversation."""
    session = kit.start()
    with_it = {"turn": number, "continues": continues, "conversation_id": conversation}

    def work(conn: Any) -> None:
        row = dict(
            conn.execute(select(tables.sessions).where(tables.sessions.c.session_id == session)).mappings().one()
        )
        copy = row | with_it | {"session_id": f"{session}-t", "nonce": None}
        conn.execute(insert(tables.sessions).values(copy))
        head = dict(conn.execute(select(tables.heads).where(tables.heads.c.session_id == session)).mappings().one())
        conn.execute(insert(tables.heads).values(head | {"id": f"{session}-t", "session_id": copy["session_id"]}))

    kit.database.transaction(work)
    return f"{session}-t"


def test_a_conversation_is_what_was_said_up_to_this_turn(kit: Kit) -> None:
    """D12: of the sessions that this one goes on from, in their order; not of later ones, nor of others' branches."""
    first = turn(kit, 0, None, None)
    second = turn(kit, 1, first, first)
    rival = turn(kit, 1, first, first)
    third = turn(kit, 2, second, first)
    alone = kit.start()
    for number, session in enumerate((third, first, rival, second, alone)):
        kit.store.say(session, said(f"{number}a"))
        kit.store.say(session, said(f"{number}b"))
    heard = {name: [content for _, content, *_ in contents(kit, name)] for name in (first, second, rival, third, alone)}
    assert heard == {
        first: ["1a", "1b"],
        second: ["1a", "1b", "3a", "3b"],
        rival: ["1a", "1b", "2a", "2b"],
        third: ["1a", "1b", "3a", "3b", "0a", "0b"],
        alone: ["4a", "4b"],
    }
    kit.store.delete_session(second)
    assert [content for _, content, *_ in contents(kit, third)][-2:] == ["0a", "0b"]


# -- the fold


def test_a_reader_that_finds_many_changes_folds_them_and_changes_nothing_else(
    kit: Kit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R139: the next reader reads few rows; version and times of the session stay."""
    monkeypatch.setattr(context, "MOST_UNFOLDED", 3)
    session = kit.start(queued("s0"), total=9)
    for number in range(4):
        before = kit.store.context(session)[1]
        assert head_of(kit, session).context_version is None
        new = before | {f"k{number}": [number]}
        kit.run(session, f"s{number}", f"s{number + 1}", context_delta=delta(before, new))
    head = head_of(kit, session)
    kit.clock.forward(60)
    value = kit.store.context(session)
    after = head_of(kit, session)
    assert (after.context_version, after.context_variables) == (head.version, value[1])
    assert (after.version, after.updated_at) == (head.version, head.updated_at)
    assert kit.store.context(session) == value
    assert context_at(kit.store.context_changes(session)) == value[1]


def test_a_fold_that_comes_late_overwrites_nothing(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    """R38: whoever was first has what the late one knew, and more."""
    monkeypatch.setattr(context, "MOST_UNFOLDED", 0)
    session = kit.start(queued("a"), total=2)
    kit.run(session, "a", "b", context_delta=delta({}, {"n": 1}))
    fold = context._fold

    def late(*args: Any) -> None:
        monkeypatch.setattr(context, "_fold", fold)
        set_to(kit, session, {"n": 2, "m": 1})
        fold(*args)

    monkeypatch.setattr(context, "_fold", late)
    assert kit.store.context(session)[1] == {"n": 1}
    assert kit.store.context(session)[1] == {"n": 2, "m": 1} == head_of(kit, session).context_variables


def test_the_end_of_a_session_leaves_its_head_up_to_date(kit: Kit) -> None:
    """R43: for those who read the head by SQL or the ORM."""
    session = kit.start(queued("a"))
    kit.run(session, "a", context_delta=delta({}, {"n": 1}))
    kit.complete(session)
    assert head_of(kit, session).context_variables == {"n": 1}


def test_what_was_there_before_changes_were_kept_is_the_first_of_them(kit: Kit) -> None:
    """R139: a context of an older version of this package is not lost when it first changes."""
    session = kit.start(queued("a"), total=3)
    old = update(tables.heads).where(tables.heads.c.session_id == session).values(context_variables={"old": [1]})
    kit.database.transaction(lambda conn: conn.execute(old))
    assert [row["version"] for row in kit.store.context_changes(session)] == [1]
    kit.run(session, "a", "b", context_delta=delta({"old": [1]}, {"old": [1, 2]}))
    assert kit.store.context(session)[1] == {"old": [1, 2]}
    assert context_at(kit.store.context_changes(session)) == {"old": [1, 2]}
    set_to(kit, session, {"old": [1, 2], "n": 1})
    rows = kit.store.context_changes(session)
    assert [row["version"] for row in rows] == [1, 2, 3]
    assert [context_at(rows, version) for version in (1, 2, 3)] == [
        {"old": [1]}, {"old": [1, 2]}, {"old": [1, 2], "n": 1},
    ]  # fmt: skip


# -- through the ORM


def test_a_change_by_the_orm_is_a_change_like_any_other(kit: Kit) -> None:
    """R139, R42: it has its row, and what steps changed meanwhile stays, although the ORM did not see it."""
    session = kit.start(queued("a"), total=2, context='{"l":[1],"n":1}')
    kit.run(session, "a", "b", context_delta=delta({"l": [1]}, {"l": [1, 2]}))
    with StoreSession(kit.database.engine) as db:
        state = db.query(SessionState).filter_by(session_id=session).one()
        assert state.context_variables == {"l": [1], "n": 1}
        state.context_variables["n"] += 1
        db.commit()
        assert (state.context_variables, state.version) == ({"l": [1, 2], "n": 2}, 3)
        state.context_variables["l"].append(3)
        state.mode = "chat"
        db.commit()
        state.current_phase = "later"
        db.commit()
    assert kit.store.context(session) == (5, {"l": [1, 2, 3], "n": 2})
    rows = kit.store.context_changes(session)
    assert [(row["version"], row["step"]) for row in rows] == [(1, None), (2, "a"), (3, None), (4, None)]
    assert context_at(rows) == {"l": [1, 2, 3], "n": 2}
    set_to(kit, session, {})
    assert kit.store.context(session)[1] == {}


def test_a_context_from_before_is_kept_when_the_orm_changes_it_first(kit: Kit) -> None:
    """R139: and what a step changed in between as well, whatever the ORM's user has seen of it."""
    session = kit.start(queued("a"), total=2)
    old = update(tables.heads).where(tables.heads.c.session_id == session).values(context_variables={"old": [1]})
    kit.database.transaction(lambda conn: conn.execute(old))
    kit.run(session, "a", "b", context_delta=delta({"old": [1]}, {"old": [1], "n": 1}))
    with StoreSession(kit.database.engine) as db:
        state = db.query(SessionState).filter_by(session_id=session).one()
        state.context_variables["old"].append(2)
        db.commit()
        state.context_variables = {**state.context_variables}  # flushed, and no change
        db.commit()
    expected = {"old": [1, 2], "n": 1}
    assert kit.store.context(session)[1] == head_of(kit, session).context_variables == expected
    rows = kit.store.context_changes(session)
    assert [row["version"] for row in rows] == [1, 2, 3]
    assert [context_at(rows, version) for version in (1, 3)] == [{"old": [1]}, expected]


def test_what_goes_with_a_session(kit: Kit) -> None:
    """R118: its context and its words."""
    session = kit.start(queued("a"), total=2)
    kit.run(session, "a", "b", context_delta=delta({}, {"n": 1}), messages=[said("x")])
    sizes = kit.store.sizes([session])[session]["bytes"]
    set_to(kit, session, {"n": "x" * 1000})
    kit.store.say(session, said("y" * 1000))
    assert kit.store.sizes([session])[session]["bytes"] > sizes + 3000
    kit.store.delete_session(session)
    assert kit.column(tables.context_changes.c.version) == kit.column(tables.messages.c.seq) == []


def test_a_change_that_cannot_be_read_is_found(kit: Kit) -> None:
    """R121: which session, which step."""
    session = kit.start(queued("a"), total=2)
    kit.run(session, "a", "b", context_delta='{"broken', messages=[said("x")])
    (found,) = (value for value in kit.store.unreadable() if value.session is not None)
    assert str(found) == f"session {session}: step 'a': session_context.delta is no JSON"
