"""`cascades.threads`: which session a conversation is in, by the users' own handles (R89-R91)."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from celery_cascade.errors import UsageError
from celery_cascade.persistence.mappings import Place
from celery_cascade.persistence.rows import Row
from celery_cascade.sessions.ids import check_names, look_up_id
from celery_cascade.sessions.thread_fork import ForkedThread, fork_thread
from celery_cascade.sessions.view import iso
from celery_cascade.tasks.runtime import Runtime
from celery_cascade.words import shown

#: Threads that one page has at most.
MOST = 1000


class Threads:
    """Conversations by the users' own handles: a thread, and the resource (user, tenant) whose it is.

    A start with `thread_id` and `resource_id` keeps the mapping by itself; this is to look at it and to change it.
    Every call names both, and a thread of another resource is one that is not there (R102). A mapping is a pointer: no
    history is in it, and the session stays when it goes.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def get(self, thread_id: str, resource_id: str) -> str | None:
        """The id of the session that the thread is in; None if there is no such thread."""
        found = self._row(thread_id, resource_id)
        return None if found is None else str(found["session_id"])

    def metadata(self, thread_id: str, resource_id: str) -> dict[str, Any] | None:
        """All there is to know of a mapping: thread_id, resource_id, session_id, created_at, updated_at.

        `updated_at` is when the thread was last used: a start, a resume, a message, a `save`. Times are ISO 8601 in
        UTC. None if there is no such thread.
        """
        found = self._row(thread_id, resource_id)
        return None if found is None else _plain(found)

    def list(self, resource_id: str, *, limit: int = 50, cursor: str | None = None) -> ThreadPage:
        """The threads of a resource, the one used last first; each as `metadata` gives it.

        Args:
            resource_id: whose.
            limit: at most so many, up to 1,000.
            cursor: the `next_cursor` of the page before. A thread that is used meanwhile moves to the front.

        Raises:
            UsageError: the cursor is none of ours, or an argument is not possible.
        """
        check_names(resource_id=resource_id)
        if isinstance(limit, bool) or not isinstance(limit, int) or not 0 < limit <= MOST:
            raise UsageError(f"limit is {shown(limit)}; it must be a whole number from 1 to {MOST:,}")
        before = None if cursor is None else _place(cursor)
        rows = self._runtime.store.mappings(resource_id, limit=limit + 1, before=before)
        more = len(rows) > limit
        rows = rows[:limit]
        return ThreadPage(map(_plain, rows), next_cursor=_cursor(rows) if more else None)

    def save(self, thread_id: str, resource_id: str, session_id: str) -> None:
        """Point a thread at a session: a new one, or the one that is there moves and keeps its `created_at` (R90).

        The next start in the thread continues this session.

        Raises:
            SessionNotFound: there is no such session for this resource.
            UsageError: a name is not possible.
        """
        check_names(thread_id=thread_id, resource_id=resource_id)
        store = self._runtime.store
        store.save_mapping(thread_id, resource_id, look_up_id(store, session_id))

    def delete(self, thread_id: str, resource_id: str) -> bool:
        """Forget a thread, and only this one; its session stays as it is. False if there was none (D10)."""
        check_names(thread_id=thread_id, resource_id=resource_id)
        return self._runtime.store.delete_mapping(thread_id, resource_id)

    def fork(
        self,
        thread_id: str,
        resource_id: str,
        new_thread_id: str | None = None,
        *,
        session_id: str | None = None,
        actor: str | None = None,
    ) -> ForkedThread:
        """Begin a second thread of the same resource where this one is; from then on they go their own ways (R100).

        All that was said and set comes along. Nothing of the first thread changes.

        Args:
            thread_id, resource_id: the thread to fork.
            new_thread_id: of the second; None = `fork-` and the time in milliseconds.
            session_id: of its session; None = a random one.
            actor: who; kept with the new session.

        Raises:
            SessionNotFound: there is no such thread.
            SessionConflict: the new thread is there already, or a step of the first one's session runs.
        """
        return fork_thread(self._runtime, thread_id, resource_id, new_thread_id, session_id=session_id, actor=actor)

    def _row(self, thread_id: str, resource_id: str) -> Row | None:
        check_names(thread_id=thread_id, resource_id=resource_id)
        return self._runtime.store.mapping(thread_id, resource_id)


class ThreadPage(list[dict[str, Any]]):
    """Threads, and where the list goes on: `next_cursor`, None after the last page."""

    def __init__(self, threads: Any = (), *, next_cursor: str | None = None) -> None:
        super().__init__(threads)
        self.next_cursor = next_cursor


def _plain(row: Row) -> dict[str, Any]:
    return {
        "thread_id": row["thread_id"],
        "resource_id": row["resource_id"],
        "session_id": row["session_id"],
        "created_at": iso(row["created_at"]),
        "updated_at": iso(row["updated_at"]),
    }


def _cursor(rows: Sequence[Row]) -> str | None:
    """Where the page ends; at the last time that is one (R119), and there is nothing to go on by if none is."""
    for row in reversed(rows):
        if row["updated_at"] is not None:
            text = json.dumps([iso(row["updated_at"]), row["thread_id"]])
            return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")
    return None


def _place(cursor: str) -> Place:
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        at, thread_id = json.loads(base64.b64decode(padded, altchars="-_", validate=True))
        moment = datetime.fromisoformat(at)
        check_names(thread_id=thread_id)
    except (UsageError, ValueError, TypeError, binascii.Error, RecursionError):
        moment = None
    if moment is None or moment.tzinfo is None:
        raise UsageError(f"cursor is {shown(cursor)}; it must be the `next_cursor` of a page") from None
    return moment, thread_id
