"""Giving a step back when the store does not answer just then: kept trying, so that no row says running for ever.

In a pool's child nobody else would notice: the audit sees that the child lives, not what it works on.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from celery_cascade.errors import ClaimLost, StoreUnavailable
from celery_cascade.persistence.rows import StepKey
from celery_cascade.tasks import fate, overtime
from celery_cascade.tasks.attempt import StepRef
from celery_cascade.tasks.patience import patiently
from celery_cascade.tasks.runtime import Runtime

logger = logging.getLogger("celery_cascade")


def give_back_attempt(
    runtime: Runtime,
    ref: StepRef,
    token: str,
    error: str,
    *,
    crash: bool,
    began: bool = True,
    timed_out: bool = False,
    claim_again: Callable[[], object] | None = None,
) -> None:
    """Give back a step that this process has claimed, or may have claimed, and whose end it did not write.

    Args:
        runtime: of the app.
        ref: which attempt.
        token: of the claim.
        error: what happened, as stored text.
        crash: whether it counts against `cascade_max_crashes`.
        began: whether the body may have begun; if certainly not, the step is queued again whatever its `on_crash`.
        timed_out: it was ended by its time limit, which its step's retry decides on.
        claim_again: for a claim whose answer is not known: makes it once more, with the same token.
    """

    def give_back() -> None:
        if claim_again is not None:
            claim_again()
        _give_back(runtime, ref, token, error, timed_out=timed_out, crash=crash, began=began)

    surely(
        give_back,
        what=f"session {ref.session}: step {ref.step}",
    )


def _give_back(
    runtime: Runtime, ref: StepRef, token: str, error: str, *, timed_out: bool, crash: bool, began: bool
) -> None:
    """Nothing if the claim never came about, or its end is written already: the token says so."""
    orphan = runtime.store.one_running(StepKey(ref.session, ref.step, ref.item), ref.attempt)
    if orphan is not None and orphan.token == token:
        if timed_out:
            overtime.time_out(runtime, orphan)
        else:
            fate.give_back(runtime, orphan, error, certain=True, crash=crash, began=began)
    runtime.tokens.close(token)


def surely(give_back: Callable[[], None], *, what: str) -> None:
    """Call `give_back` now, or, if the store is away, from a thread of its own as soon as it is back.

    The thread is a daemon: should the process end first, its worker's audit or death gives the step back.
    """
    try:
        give_back()
    except StoreUnavailable:
        logger.warning("%s: the store is away; it is given back as soon as that answers", what)
        threading.Thread(target=_until_done, args=(give_back, what), name="cascade-give-back", daemon=True).start()


def _until_done(give_back: Callable[[], None], what: str) -> None:
    try:
        patiently(give_back, seconds=None, what=what)
    except ClaimLost:
        return  # somebody else has it already
    except Exception:
        logger.exception("%s: could not be given back; end this process, and recovery does it", what)
