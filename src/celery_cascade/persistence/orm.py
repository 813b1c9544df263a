"""What the public ORM classes do beyond holding columns (D5, R37, R43, R44); models.py only points here."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement, event, func, null, select
from sqlalchemy.orm import attributes

from celery_cascade.errors import SessionConflict
from celery_cascade.persistence import codec
from celery_cascade.persistence.checked import as_said
from celery_cascade.persistence.types import statement_time
from celery_cascade.states import SessionStatus, can_move

if TYPE_CHECKING:
    from celery_cascade.persistence.models import Session, SessionMessage, SessionState

_FINAL = frozenset(status.value for status in SessionStatus if status.final)


def new_state() -> dict[str, Any]:
    """The columns of a head before the first step."""
    return {
        "conversation_history": [],
        "context_variables": {},
        "plan_data": None,
        "current_phase": "init",
        "status": SessionStatus.ACTIVE.value,
    }


def state_as_dict(state: SessionState) -> dict[str, Any]:
    return {
        "id": state.id,
        "session_id": state.session_id,
        "mode": state.mode,
        "conversation_history": list(state.conversation_history),
        "context_variables": state.context_variables or {},
        "plan_data": state.plan_data,
        "current_phase": state.current_phase,
        "current_step": state.current_step,
        "status": state.status,
        "created_at": _iso(state.created_at),
        "updated_at": _iso(state.updated_at),
        "expires_at": _iso(state.expires_at),
        "version": state.version,
    }


def set_status(session: Session, value: str) -> None:
    """`Session(status=…)` and `session.status = …`: the head's status.

    `active` makes no head where there is none: that is what a session without one is, and the head itself may be
    added later by `SessionState.create_for_session`.
    """
    from celery_cascade.persistence.models import SessionState

    if session.state is not None:
        session.state.status = value
    elif value != SessionStatus.ACTIVE:
        session.session_states.append(SessionState(mode="cascade", **(new_state() | {"status": value})))


def status_in_sql() -> ColumnElement[str]:
    """`Session.status` in a query."""
    from celery_cascade.persistence.models import Session, SessionState

    head = select(SessionState.status).where(SessionState.session_id == Session.session_id).scalar_subquery()
    return func.coalesce(head, SessionStatus.ACTIVE.value)


def moved(state: SessionState, value: str) -> str:
    """Check a change of status, and note the end when it is one (R39). An unknown word is left to the constraint.

    Raises:
        SessionConflict: no session goes from where it is to there.
    """
    old = attributes.instance_dict(state).get("status")
    known = {status.value for status in SessionStatus}
    if old in known and value in known and old != value and not can_move(SessionStatus(old), SessionStatus(value)):
        raise SessionConflict(
            f"session {state.session_id} is {old}; it cannot become {value}",
            hint=f"Run it again with: cascade rerun {state.session_id}",
        )
    if value in _FINAL and old not in _FINAL:
        state.finished_at = statement_time()
    elif value not in _FINAL and old in _FINAL:
        state.finished_at = null()
    return str(value)


def message_columns(message: Mapping[str, Any]) -> dict[str, Any]:
    """A message as the columns of its row; keys other than role and content go to `extra`.

    Raises:
        ValueError: it does not say who speaks.
    """
    if not isinstance(message.get("role"), str):
        raise ValueError(f"a message needs a role; this one has the keys {sorted(message)}")
    extra = {key: value for key, value in message.items() if key not in ("role", "content")}
    return {
        "role": message["role"],
        "content": codec.encode(message.get("content"), what="message.content"),
        "extra": codec.encode(extra, what="message") if extra else None,
    }


def message_as_mapping(message: SessionMessage) -> dict[str, Any]:
    return as_said(message.role, message.content, message.extra)


def number_messages(messages: Any) -> None:
    """Give a message that is appended its number and the version at which it came."""

    @event.listens_for(messages, "append")
    def number(state: SessionState, message: SessionMessage, _initiator: Any) -> None:
        if message.seq is None:
            message.seq = max((other.seq for other in state.messages if other.seq), default=0) + 1
        if attributes.instance_state(state).persistent:
            message.version = state.version + 1
            state.updated_at = statement_time()  # an UPDATE of the head: its version grows
        elif message.version is None:
            message.version = 1


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()
