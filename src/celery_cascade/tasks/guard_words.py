"""What the guard says of a step: in logs, in tracebacks, in errors."""

from __future__ import annotations

import logging

from celery.exceptions import Retry

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


def add_note(exc: BaseException, ref: StepRef) -> None:
    """R161: the traceback ends with where it was and how to go on. A bonus: it must never replace the error."""
    try:
        if hasattr(exc, "__notes__"):  # an exception kept in a module and raised again would collect them
            exc.__notes__ = [note for note in exc.__notes__ if not str(note).startswith(NOTE)]
        exc.add_note(
            f"{NOTE}session {ref.session}, step {_step(ref)}, attempt {ref.attempt}; "
            f"resume with: cascade resume {ref.session}"
        )
    except Exception:
        logger.debug("no note on %r", exc, exc_info=True)


def _step(ref: StepRef) -> str:
    return ref.step if ref.item < 0 else f"{ref.step}[{ref.item}]"


def name_of(ref: StepRef) -> str:
    return f"step {_step(ref)} of session {ref.session}, attempt {ref.attempt}"
