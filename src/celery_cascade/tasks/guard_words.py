"""What the guard says of a step: in logs, in tracebacks, in errors."""

from __future__ import annotations

import logging

from celery.exceptions import Retry
from celery.utils.serialization import get_pickleable_exception

from celery_cascade.calling import command
from celery_cascade.errors import CascadeError
from celery_cascade.tasks.attempt import StepRef

logger = logging.getLogger("celery_cascade.tasks")

NOTE = "[cascade] "


def stray_retry(ref: StepRef, exc: Retry) -> CascadeError:
    """A Retry of another task, or made by hand. Celery would show RETRY and never run the task again."""
    error = CascadeError(
        f"{name_of(ref)} raised Retry without asking for it: {exc}",
        hint="Call `raise self.retry(...)` of the step's own task, or raise the error and let the step's retry decide.",
    )
    error.__cause__ = exc.exc if exc.exc is not None else exc
    return error


def note_on(ref: StepRef, delay: float | None = None) -> str:
    """What a failing step's traceback ends with (R161).

    Args:
        delay: seconds until it is tried again by itself; None = it failed for good.
    """
    then = f"resume with: {command(f'resume {ref.session}')}" if delay is None else f"tried again in {delay:.1f} s"
    return f"{NOTE}session {ref.session}, step {_step(ref)}, attempt {ref.attempt}; {then}"


def add_note(exc: BaseException, ref: StepRef) -> None:
    """R161: the traceback ends with where it was and how to go on. A bonus: it must never replace the error.

    Celery logs another exception in the place of one that cannot be pickled. Then, and for one that takes no notes,
    the log gets the note as a line of its own.
    """
    note = note_on(ref)
    try:
        drop_note(exc)
        exc.add_note(note)
        if get_pickleable_exception(exc) is exc:
            return
    except Exception:
        logger.debug("no note on %s", type(exc).__name__, exc_info=True)
    logger.error("%s", note)


def drop_note(exc: BaseException) -> None:
    """Take an earlier note away: an exception kept in a module and raised again would collect them."""
    notes = getattr(exc, "__notes__", None)
    if isinstance(notes, list) and any(str(note).startswith(NOTE) for note in notes):
        exc.__notes__ = [note for note in notes if not str(note).startswith(NOTE)]


def _step(ref: StepRef) -> str:
    return ref.step if ref.item < 0 else f"{ref.step}[{ref.item}]"


def name_of(ref: StepRef) -> str:
    return f"step {_step(ref)} of session {ref.session}, attempt {ref.attempt}"
