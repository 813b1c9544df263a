"""Laying two sessions of a store beside each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from celery_cascade.errors import UsageError
from celery_cascade.persistence import codec
from celery_cascade.sessions.diff import PARTS, Side, compare
from celery_cascade.sessions.diff_secrets import without_secrets
from celery_cascade.sessions.hiding import Hiding, hiding_of
from celery_cascade.sessions.ids import words_of
from celery_cascade.sessions.parting import parting
from celery_cascade.sessions.view import plain
from celery_cascade.tasks.runtime import Runtime
from celery_cascade.words import suggestion

if TYPE_CHECKING:
    from celery_cascade.sessions.session import Session


def compare_sessions(
    runtime: Runtime, a: Session, b: Session, *, only: Sequence[str] | str | None = None, redact: bool = True
) -> dict[str, Any]:
    """The differences of two sessions, as `sessions.diff.compare` gives them.

    Args:
        only: the parts; None = all.
        redact: without what stands under secret keys (R145). That it differs is told all the same.

    Raises:
        SessionNotFound: one of them is not there.
        UsageError: `only` names a part that there is not.
    """
    parts = parts_of(only)
    one, other = _side(a), _side(b)
    parts_at = parting(runtime.store.lineage(a.id), runtime.store.lineage(b.id))
    found = compare(one, other, parts_at, parts)
    if not redact or not runtime.secret_keys:
        return found
    hiding = hiding_of(runtime, a.id, b.id)
    shown = compare(_hidden(one, hiding), _hidden(other, hiding), parts_at, parts)
    return without_secrets(found, shown, hiding.text)


def _hidden(side: Side, hiding: Hiding) -> Side:
    return replace(side, session=hiding.view(side.session), context=hiding.data(side.context))


def parts_of(only: Sequence[str] | str | None) -> list[str] | None:
    """The parts that are wanted. Raises UsageError."""
    words = words_of(only, "only")
    for word in words or ():
        if word not in PARTS:
            near = suggestion(word, PARTS)
            raise UsageError(
                f"{word!r} is no part of a session that can be compared{near}", hint=f"One of: {', '.join(PARTS)}"
            )
    return words


def _side(session: Session) -> Side:
    whole = session.to_dict(redact=False)
    context = plain(codec.encode(dict(session.context), what="context"), f"session {session.id}: its context")
    return Side(session=whole, definition=session.source, context=context)
