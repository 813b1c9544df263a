"""Threads: (thread, resource) is a conversation; a start takes it over when its session has ended (D12)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NoReturn

from sqlalchemy import Connection, select

from celery_cascade.errors import SessionConflict
from celery_cascade.persistence.conversations import Place, begun_before, last_of, place_of, running_before, running_in
from celery_cascade.persistence.mappings import (
    INSERT_MAPPING,
    MOVE_MAPPING,
    THIS_THREAD,
    pair_of,
    touch_mapping,
)
from celery_cascade.persistence.rows import NewSession
from celery_cascade.persistence.tables import THIS_HEAD, heads, mappings
from celery_cascade.states import FINAL_SESSION, waits_its_turn

_IN = select(mappings.c.session_id).where(THIS_THREAD)
_LOCK = _IN.with_for_update()
_STATUS = select(heads.c.status, heads.c.status_reason, heads.c.started_at).where(THIS_HEAD)
#: Whoever would delete the session that is continued waits, or is waited for; and so does who would continue it, too.
_LOCK_STATUS = _STATUS.with_for_update()


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """What a session that starts goes on with.

    Args:
        continues: the session before it in its thread.
        conversation_id: of the turns before it; None = it is the first of its own.
        turn: its number in the conversation.
        source: the session whose context it takes over; with `waits` that is found when its turn has come.
        copies: it begins a conversation of its own, with the messages of that one up to this place.
        waits: an earlier turn has not ended.
    """

    continues: str | None = None
    conversation_id: str | None = None
    turn: int = 0
    source: str | None = None
    copies: Place | None = None
    waits: bool = False


def take_thread(conn: Connection, new: NewSession, clock: dict[str, Any]) -> Turn:
    """Point the thread of a session that starts at it, and find out what it continues.

    Two starts at once: the second finds the first one's row, or runs into its primary key and is tried again.

    Raises:
        SessionConflict: the thread's session has not ended, and the new one is not to wait for that.
    """
    if new.thread_id is None or new.resource_id is None:
        return Turn()
    pair = pair_of(new.thread_id, new.resource_id)
    before = _lock_thread(conn, pair)
    if before is None:
        conn.execute(INSERT_MAPPING, clock | pair | {"b_new": new.session_id})
        return Turn()
    if before == new.session_id:
        return Turn()  # the same start once more: its id is taken, which says more
    turn = _turn_after(conn, new, before)
    conn.execute(MOVE_MAPPING, clock | pair | {"b_new": new.session_id})
    return turn


def _lock_thread(conn: Connection, pair: dict[str, str]) -> str | None:
    """Lock a thread and the session that it is in, the head first as everywhere (rule 4); which session that is."""
    seen: str | None = conn.execute(_IN, pair).scalar()
    if seen is None:
        return None
    conn.execute(_LOCK_STATUS, {"b_session": seen})
    before: str | None = conn.execute(_LOCK, pair).scalar()
    return before


def _turn_after(conn: Connection, new: NewSession, before: str) -> Turn:
    head = conn.execute(_LOCK_STATUS, {"b_session": before}).one_or_none()
    place = place_of(conn, before)
    if head is None or place is None:
        return Turn()
    running = _running(conn, before, head, place)
    last = last_of(conn, place)
    pair = (new.thread_id, new.resource_id)
    own = place.pair in (None, pair) and (last == place or last.pair == pair)
    if running is not None and not (new.queue and own):
        _refuse(new, *running)
    waits = running is not None
    source = None if waits else before if head.started_at is not None else begun_before(conn, place)
    if not own:  # another thread goes on with it as well: neither sees what follows in the other
        return Turn(continues=before, source=source, copies=place)
    conversation = place.conversation
    return Turn(continues=before, conversation_id=conversation, turn=last.turn + 1, source=source, waits=waits)


def _running(conn: Connection, before: str, head: Any, place: Place) -> tuple[str, str] | None:
    """The session of the thread that has not ended, and its status; of several the one that was begun."""
    ended = head.status in FINAL_SESSION
    if ended and head.started_at is not None:
        return None
    if ended or waits_its_turn(head.status, head.status_reason, head.started_at):
        found = running_in(conn, place)  # it was never begun itself, so an earlier one may still run
        if found is not None:
            return found.session_id, found.status
    return None if ended else (before, head.status)


def _refuse(new: NewSession, session_id: str, status: str) -> NoReturn:
    raise SessionConflict(
        f"thread {new.thread_id!r} of {new.resource_id!r} is in session {session_id}, which is {status}",
        hint=f"Look: cascade show {session_id}\nEnd it: cascade cancel {session_id}\n"
        "Or start this one when that has ended: queue=True, on the command line --queue",
    )


def refuse_before_its_turn(conn: Connection, session_id: str) -> None:
    """Raise SessionConflict if an earlier session of the thread has not ended; this one's head is locked."""
    place = place_of(conn, session_id)
    earlier = None if place is None else running_before(conn, place)
    if earlier is not None:
        raise SessionConflict(
            f"session {session_id} waits for session {earlier.session_id} of its thread, which is {earlier.status}",
            hint=f"Watch that: cascade watch {earlier.session_id}\nEnd it: cascade cancel {earlier.session_id}",
        )


def keep_thread(conn: Connection, session_id: str, clock: dict[str, Any]) -> None:
    """A session that goes on takes its thread back; sessions that wait behind it stay where they are.

    Raises:
        SessionConflict: another session goes on with the thread.
    """
    place = place_of(conn, session_id)
    if place is None or place.thread_id is None or place.resource_id is None:
        touch_mapping(conn, session_id, clock)
        return
    pair = pair_of(place.thread_id, place.resource_id)
    now_in: str | None = conn.execute(_LOCK, pair).scalar()
    if now_in is None or now_in == session_id:
        touch_mapping(conn, session_id, clock)
        return
    found = running_in(conn, place)
    if found is not None:
        _refuse_to_go_on(place, found.session_id, found.status)
    head = conn.execute(_STATUS, {"b_session": now_in}).one_or_none()
    if head is None or head.status in FINAL_SESSION:
        conn.execute(MOVE_MAPPING, clock | pair | {"b_new": session_id})
        return
    queued = place_of(conn, now_in)
    behind = queued is not None and queued.conversation == place.conversation and queued.turn > place.turn
    if not (behind and waits_its_turn(head.status, head.status_reason, head.started_at)):
        _refuse_to_go_on(place, now_in, head.status)
    touch_mapping(conn, now_in, clock)


def _refuse_to_go_on(place: Place, now_in: str, status: str) -> NoReturn:
    raise SessionConflict(
        f"session {place.session_id}: its thread {place.thread_id!r} goes on in session {now_in}, which is {status}",
        hint=f"Look: cascade show {now_in}\nEnd it: cascade cancel {now_in}",
    )
