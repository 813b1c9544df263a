"""The cursor of a list: where a page ended, as one opaque word for command lines and URLs."""

from __future__ import annotations

import base64
import binascii
import json
from datetime import UTC, datetime
from typing import Any

from celery_cascade.errors import UsageError
from celery_cascade.persistence.finding import Place, SessionFilter
from celery_cascade.persistence.ways import order_of
from celery_cascade.sessions.ids import storable
from celery_cascade.words import shown

_HINT = "Take the next_cursor of the page before, with the same filters; without a cursor the list begins at its top"


def cursor_of(wanted: SessionFilter, place: Place) -> str:
    """The word for a place in the list that `wanted` gives."""
    moment, last = place
    if isinstance(moment, datetime):
        at = ["moment", (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC).isoformat()]
    else:
        at = ["stored", moment]  # SQLite's own text, which need not be a moment (R119)
    packed = json.dumps([order_of(wanted), *at, last], separators=(",", ":"))
    return base64.urlsafe_b64encode(packed.encode()).decode().rstrip("=")


def place_in(wanted: SessionFilter, cursor: Any) -> Place:
    """The place that a word means.

    Raises:
        UsageError: it is no cursor, or one of another list.
    """
    if not isinstance(cursor, str):
        raise UsageError(f"cursor is {shown(cursor)}; it must be text", hint=_HINT)
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        order, kind, at, last = json.loads(base64.b64decode(padded, altchars="-_", validate=True))
        moment = datetime.fromisoformat(at) if kind == "moment" else at
        sound = kind in ("moment", "stored") and isinstance(last, str) and isinstance(at, str)
        sound = sound and storable(last) and storable(at) and (kind == "stored" or moment.tzinfo is not None)
    except (ValueError, TypeError, binascii.Error, RecursionError):
        sound = False
    if not sound:
        raise UsageError(f"{shown(cursor)} is no cursor of a list", hint=_HINT)
    if order != order_of(wanted):
        raise UsageError(f"the cursor {shown(cursor)} is of a list with other filters", hint=_HINT)
    return moment, last
