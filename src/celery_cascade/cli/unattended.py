"""After an action on many sessions: that nobody is there to run what goes on, said once for all of them (D2)."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from celery_cascade.cli.caller import Caller
from celery_cascade.cli.follow import no_worker
from celery_cascade.cli.living import Lack, lack_of, workers
from celery_cascade.cli.words import say
from celery_cascade.errors import CascadeError
from celery_cascade.tasks.runtime import Runtime

#: Sessions that are looked at; where there is no worker at all the first one tells it.
_LOOKED = 200


def say_unattended(session_ids: Sequence[str]) -> None:
    """Say it of the first of these that has steps to be run and nobody to run them."""
    caller = Caller.here()
    found = _first(caller.runtime, session_ids[:_LOOKED])
    if found is not None:
        for line in no_worker(caller, *found, several=len(session_ids) > 1):
            say(line)


def _first(runtime: Runtime, session_ids: Sequence[str]) -> tuple[str, Lack] | None:
    waiting = {row["session_id"] for row in runtime.store.waiting_tasks(session_ids)} if session_ids else set()
    there = workers(runtime) if waiting else []
    for session_id in session_ids:
        if session_id in waiting:
            with suppress(CascadeError):  # what cannot be read is told by whoever runs it
                if (lack := lack_of(runtime, runtime.facts(session_id).plan, there)) is not None:
                    return session_id, lack
    return None
