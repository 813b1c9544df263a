"""A late writer that was refused is counted in SQL, for `doctor` and for people (docs/sql.md)."""

from __future__ import annotations

import logging

from celery_cascade.errors import CascadeError
from celery_cascade.persistence.rows import StepKey
from celery_cascade.tasks.attempt import Attempt
from celery_cascade.tasks.runtime import Runtime

logger = logging.getLogger("celery_cascade")


def note_fenced(runtime: Runtime, attempt: Attempt) -> None:
    """Write it down once, as well as may be: the refusal itself is what counts, and stands already."""
    ref = attempt.ref
    try:
        runtime.store.note_fenced(StepKey(ref.session, ref.step, ref.item), ref.attempt)
    except CascadeError as error:
        logger.debug("session %s: step %s: its refused end is not counted: %s", ref.session, ref.step, error)
