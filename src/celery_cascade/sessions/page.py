"""A page of sessions: what a list gives."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from celery_cascade.lazy import lazy
from celery_cascade.persistence.finding import SessionFilter
from celery_cascade.persistence.listing import place_of
from celery_cascade.persistence.rows import Row
from celery_cascade.sessions.attendance import Attendance
from celery_cascade.sessions.cursor import cursor_of
from celery_cascade.sessions.hiding import by_keys
from celery_cascade.sessions.session import Session
from celery_cascade.sessions.view import summary
from celery_cascade.tasks.runtime import Runtime

#: Counting ends here: nobody reads on, and it would cost more than the page.
COUNTED = 10_000


class Page:
    """Sessions, newest first, as they were when the page was read; made by `cascades.sessions(...)`.

    Iterating gives `Session` handles. `len(page)` is how many there are on it, `page[0]` the newest of them.
    """

    def __init__(self, runtime: Runtime, wanted: SessionFilter) -> None:
        self._runtime = runtime
        self._wanted = wanted
        rows = runtime.store.sessions(replace(wanted, limit=wanted.limit + 1)) if wanted.limit else []
        self.rows: list[Row] = rows[: wanted.limit]  #: as stored, without payloads
        self._more = len(rows) > wanted.limit

    def __iter__(self) -> Iterator[Session]:
        return iter([Session(self._runtime, row["session_id"]) for row in self.rows])

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, number: int) -> Session:
        return Session(self._runtime, self.rows[number]["session_id"])

    def __repr__(self) -> str:
        return f"<Page of {len(self)} sessions{', and there are more' if self._more else ''}>"

    @property
    def next_cursor(self) -> str | None:
        """Where the next page begins, for `cursor=` with the same filters; None = this was the last."""
        return cursor_of(self._wanted, place_of(self.rows[-1])) if self._more else None

    @property
    def total_sessions(self) -> int:
        """How many sessions the filters find on all pages; see `total_exact`."""
        return self._total[0]

    @property
    def total_exact(self) -> bool:
        """Whether that is all. False = there are more: counting ends at 10,000, and with what this page shows for a
        search by text, because that would read every session.
        """
        return self._total[1]

    @lazy
    def _total(self) -> tuple[int, bool]:
        if not self._more and self._wanted.before is None:
            return len(self), True
        if self._wanted.by_text:
            return len(self), False
        found = self._runtime.store.count(self._wanted, COUNTED)
        return min(found, COUNTED), found <= COUNTED

    @lazy
    def attendance(self) -> Attendance | None:
        """Who is alive to run the active ones; None = none is active."""
        return Attendance(self._runtime) if any(row["status"] == "active" for row in self.rows) else None

    @lazy
    def summaries(self) -> list[dict[str, Any]]:
        """The sessions as JSON-ready data, as in `ls --json`.

        `topic` is what each is about: its input `topic`, else its name, else its cascade. `is_zombie`: it is active
        and nobody is alive to run it.
        """
        now = self._runtime.store.now()
        topics = self._runtime.store.topics([row["session_id"] for row in self.rows])
        found = []
        for row in self.rows:
            topic = topics.get(row["session_id"]) or row["name"] or row["cascade_id"]
            zombie = self.attendance is not None and self.attendance.alone_for(row) is not None
            found.append({**summary(row, now), "topic": topic, "is_zombie": zombie})
        return by_keys(self._runtime).view(found)  # type: ignore[no-any-return]

    def to_dict(self) -> dict[str, Any]:
        """The whole page as JSON-ready data (D6)."""
        return {
            "sessions": self.summaries,
            "count": len(self),
            "total_sessions": self.total_sessions,
            "total_exact": self.total_exact,
            "next_cursor": self.next_cursor,
        }
