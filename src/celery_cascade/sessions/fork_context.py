"""The context that a fork begins with: what its kept steps have set, and what was set from outside up to the fork."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from celery_cascade import deltas
from celery_cascade.errors import SessionNotFound, StoreError, UsageError
from celery_cascade.persistence import codec
from celery_cascade.persistence.checked import context_text
from celery_cascade.persistence.origin import Origin
from celery_cascade.persistence.store import Store
from celery_cascade.words import shown

Changes = Sequence[Mapping[str, Any]]


def context_of_fork(
    store: Store,
    origin: Origin,
    kept: Collection[str],
    version: int,
    given: Mapping[str, Any] | None,
    limit: int,
) -> str | None:
    """The context as JSON text; None = {}.

    Args:
        store: where the origin is.
        origin: of the fork.
        kept: the steps that it keeps.
        version: of the origin, up to which the two are the same.
        given: what replaces variables of the same names.
        limit: bytes that it may have.

    Raises:
        UsageError: `given` is no mapping.
        NotSerializable, PayloadTooLarge: it cannot be stored.
        StoreError: what is stored of the origin's cannot be read.
    """
    if given is not None and not isinstance(given, Mapping):
        raise UsageError(f"context is {shown(given)}; it must be a mapping", hint="For example: {'n': 1}")
    try:
        changes = _changes(store, origin, kept)
        value = codec.from_plain(deltas.fold(row["delta"] for row in changes if _counts(row, kept, version)))
    except (ValueError, TypeError) as error:
        raise StoreError(
            f"session {origin.session_id}: its context cannot be read: {error}",
            hint="Look at the store with: cascade doctor",
        ) from error
    if not isinstance(value, dict):
        raise StoreError(f"session {origin.session_id}: its context is a {type(value).__name__}, not a mapping")
    value |= given or {}
    what = f"context of a fork of session {origin.session_id}"
    return context_text(value, what, limit) if value else None


def _counts(change: Mapping[str, Any], kept: Collection[str], version: int) -> bool:
    """Whether a change of the origin's context is one of the fork's, too."""
    if change["step"] is None:
        return bool(change["version"] <= version)
    return change["step"] in kept


def _changes(store: Store, origin: Origin, kept: Collection[str]) -> Changes:
    """What has changed the origin's context, with the step that did.

    A fork begins with all that it took over in one change. Where one of the steps that it took over runs again, that
    change does not say what was whose: it is asked further back, as far as sessions are still there.
    """
    changes = store.context_changes(origin.session_id)
    if _taken_over(origin) <= set(kept) or not changes or changes[0]["version"] != 1:
        return changes
    row = store.session(origin.session_id)
    if row["forked_from"] is None or row["forked_version"] is None:
        return changes
    try:
        above = store.origin(row["forked_from"])
        inherited = [
            {"version": 1, "step": one["step"], "delta": one["delta"]}
            for one in _changes(store, above, set())
            if _counts(one, _taken_over(origin), row["forked_version"])
        ]
    except SessionNotFound:
        return changes
    began = deltas.apply({}, json.loads(changes[0]["delta"]))
    own = deltas.diff(deltas.fold(one["delta"] for one in inherited), began)  # what was given with that fork
    return [*inherited, {"version": 1, "step": None, "delta": deltas.written(own)}, *changes[1:]]


def _taken_over(origin: Origin) -> set[str]:
    return {name for name, step in origin.ended.items() if step.version == 1}
