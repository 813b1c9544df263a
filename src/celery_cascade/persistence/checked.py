"""What users put into a session's context and its conversation, as text, checked before anything is written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from celery_cascade.errors import PayloadTooLarge, UsageError
from celery_cascade.persistence import codec
from celery_cascade.persistence.rows import NewMessage

LONGEST_ROLE = 50


def context_text(values: Mapping[str, Any], what: str, limit: int) -> str:
    """A context as JSON.

    Raises:
        NotSerializable: something in it cannot be stored; names the path to it.
        PayloadTooLarge: it is over `limit` bytes; names its largest entry.
    """
    try:
        return codec.encode_limited(dict(values), what=what, limit=limit)
    except PayloadTooLarge as error:
        raise PayloadTooLarge(f"{error.message}; {_largest(values)}", hint=error.hint) from None


def _largest(values: Mapping[str, Any]) -> str:
    sizes = {key: len(codec.encode(value, what=key)) for key, value in values.items()}
    key = max(sizes, key=sizes.__getitem__)
    return f"its largest entry is {key!r} with {sizes[key]:,}"


def as_said(role: str, content: str, extra: str | None) -> dict[str, Any]:
    """A message as it was said, of the columns of its row. Raises StoreError: they cannot be read."""
    return {"role": role, "content": codec.decode(content), **(codec.decode(extra) if extra else {})}


def new_message(role: str, content: Any, extra: Mapping[str, Any], limit: int) -> NewMessage:
    """A message as the columns of its row.

    Raises:
        UsageError: the role is no text of 1 to 50 characters.
        NotSerializable: something in it cannot be stored; names the path to it.
        PayloadTooLarge: it is over `limit` bytes, whatever came with it included.
    """
    if not isinstance(role, str) or not 0 < len(role) <= LONGEST_ROLE:
        raise UsageError(f"the role of a message is {role!r:.100}; it must be text of 1 to {LONGEST_ROLE} characters")
    if "\x00" in role or any("\ud800" <= char <= "\udfff" for char in role):
        raise UsageError(f"the role of a message is {role!a}; NUL and halves of characters cannot be stored")
    codec.encode_limited({"content": content, **extra}, what=f"message of {role!r}", limit=limit)
    return NewMessage(
        role=role,
        content=codec.encode(content, what="content"),
        extra=codec.encode(dict(extra), what="extra") if extra else None,
    )
