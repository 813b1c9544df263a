"""Waiting for a database that is away: bounded before a step runs, unbounded once its work is done."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from typing import TypeVar

from celery_cascade.errors import StoreUnavailable

T = TypeVar("T")
logger = logging.getLogger("celery_cascade")

_FIRST, _LONGEST = 0.05, 5.0


def patiently(
    work: Callable[[], T], *, seconds: float | None, what: str, sleep: Callable[[float], None] | None = None
) -> T:
    """Call `work` until the store answers.

    Args:
        seconds: give up with StoreUnavailable after so long, and at once if waiting will not help; None = never (the
            hard time limit or shutdown ends it).
        what: for the log.
    """
    deadline = None if seconds is None else time.monotonic() + seconds
    delay = _FIRST
    while True:
        try:
            return work()
        except StoreUnavailable as error:
            if deadline is not None and (error.lasting or time.monotonic() + delay > deadline):
                raise
            if delay == _FIRST:
                logger.warning("%s: waiting for the store: %s", what, error.message)
        (sleep or time.sleep)(delay * random.uniform(0.75, 1.25))  # noqa: S311  (jitter, no secret)
        delay = min(delay * 2, _LONGEST)
