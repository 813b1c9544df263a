"""Which definitions a cascade had (R21), and one of them by the beginning of its sha256."""

from __future__ import annotations

import re
from typing import Any

from celery_cascade.definition.cascade import Source
from celery_cascade.errors import DefinitionNotFound, UsageError
from celery_cascade.sessions.ids import check_text, storable
from celery_cascade.sessions.view import iso
from celery_cascade.tasks.runtime import Runtime
from celery_cascade.words import shown, suggestion

_SHORTEST = 6
_DIGEST = re.compile(r"[0-9a-f]{6,64}")


def versions_of(runtime: Runtime, cascade_id: str) -> list[dict[str, Any]]:
    """The distinct definitions of a cascade, the newest first. Raises DefinitionNotFound with the nearest name."""
    check_text(cascade_id, "the name of a cascade", 10_000)
    found = runtime.store.versions(cascade_id) if storable(cascade_id) else []
    if not found:
        near = suggestion(cascade_id, runtime.store.cascade_ids(), else_list="there are")
        raise DefinitionNotFound(
            f"the store has no definition of a cascade {shown(cascade_id)}{near}", hint="See what ran: cascade ls"
        )
    return [
        {
            "sha256": row["digest"],
            "format": row["format"],
            "bytes": row["bytes"],
            "first_seen_at": iso(row["first_seen_at"]),
            "sessions": row["sessions"],
            "last_used_at": iso(row["created_at"]),
            "config_path": row["config_path"],
        }
        for row in found
    ]


def definition_beginning(runtime: Runtime, prefix: str) -> Source:
    """The stored definition whose sha256 begins so.

    Raises:
        UsageError: it is no beginning of a sha256, or several begin so.
        DefinitionNotFound: there is none.
    """
    word = prefix.lower()
    if not _DIGEST.fullmatch(word):
        raise UsageError(
            f"{shown(prefix)} is no sha256: {_SHORTEST} to 64 characters of 0-9 a-f",
            hint="See those of a session: cascade show @last --json",
        )
    found = runtime.store.definition_beginning(word)
    if not found:
        raise DefinitionNotFound(f"the store has no definition whose sha256 begins with {word}")
    if len(found) > 1:
        raise UsageError(f"several definitions have a sha256 that begins with {word}", hint="\n".join(found))
    row = runtime.store.definition(found[0])
    return Source(body=bytes(row["body"]), format=row["format"])
