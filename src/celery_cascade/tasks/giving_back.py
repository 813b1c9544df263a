"""Giving a step back when the store does not answer just then: kept trying, so that no row says running for ever.

In a pool's child nobody else would notice: the audit sees that the child lives, not what it works on.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from celery_cascade.errors import ClaimLost, StoreUnavailable
from celery_cascade.tasks.patience import patiently

logger = logging.getLogger("celery_cascade")


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
