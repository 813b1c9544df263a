"""A message that reached a worker which does not know its task: an older deploy on the same queue (R153).

Celery acks and drops what it does not know. The step stays queued and nothing fails: its message is sent again soon,
and later with each further drop, so that it reaches a worker that knows the task without spinning between those that
do not. When a worker that knows it starts, it wakes what waits for it.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Sequence
from random import uniform
from time import sleep

from celery_cascade.calling import command
from celery_cascade.persistence.rows import QueuedStep, StepKey
from celery_cascade.tasks.attempt import StepRef
from celery_cascade.tasks.runtime import Runtime

logger = logging.getLogger("celery_cascade")

#: Seconds until the message is sent again for the first time.
FIRST_DELAY = 5.0
#: Messages more that a step gets at each resend while a living worker knows its task, and the seconds between them,
#: about: workers that look at intervals are not to be met at the same moment of it each time.
COPIES, PAUSE = 3, 0.3


def delay(runtime: Runtime, ref: StepRef, text: str) -> None:
    """Write down that this worker has dropped a step's message. A message of another store is not ours to delay."""
    if ref.store != runtime.store_id:
        logger.warning("session %s: step %s of another store: %s", ref.session, ref.step, text)
        return
    key = StepKey(ref.session, ref.step, ref.item)
    first = min(FIRST_DELAY, runtime.config.resend_after)
    wait = runtime.store.delay_unknown(key, ref.attempt, first=first)
    if wait is None:
        logger.info("session %s: step %s: %s; somebody else has taken it", ref.session, ref.step, text)
        return
    logger.warning(
        "session %s: step %s: %s; its message is sent again in %g s, for a worker that does. "
        "See what it waits for: %s; to end the session instead: %s",
        ref.session,
        ref.step,
        text,
        wait,
        command(f"show {ref.session}"),
        command(f"cancel {ref.session}"),
    )


def wake(runtime: Runtime, mine: Iterable[str] = ()) -> int:
    """Make due what was dropped for want of a task that a living worker knows; returns how many steps.

    Args:
        mine: the tasks of a worker that has just begun and whose heartbeat may not be there yet.
    """
    woken = runtime.store.wake_known(_known(runtime) | set(mine))
    if woken:
        logger.info("[cascade] sent again, now that a worker knows their task: %d steps", woken)
    return woken


def insist(runtime: Runtime, dropped: Sequence[QueuedStep]) -> int:
    """Send messages that were dropped before some more times, a moment apart; returns how many messages.

    Older and newer workers take turns, and the one that has waited longest is served first: on Redis an older one that
    is idle would win every single message. A second one a moment later finds it at the end of the line.
    """
    known = _known(runtime) if dropped else set()
    left, sent = [step for step in dropped if step.task in known], 0
    for _ in range(COPIES):
        if not left:
            break
        sleep(PAUSE * uniform(0.5, 1.5))  # noqa: S311
        unclaimed = runtime.store.still_unclaimed([step.key for step in left])
        left = [step for step in left if step.key in unclaimed]
        sent += runtime.publisher.send(left)
    return sent


def _known(runtime: Runtime) -> set[str]:
    """The tasks that living workers know, of those that take messages."""
    known: set[str] = set()
    for row in runtime.store.running_workers():
        if row.pool != "here" and row.silent_for <= runtime.config.heartbeat_timeout:
            known.update(json.loads(row.tasks or "[]"))
    return known
