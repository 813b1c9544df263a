"""Whether the store is there, for those who may go on without it (`cascade_store_required = False`; D4, R15)."""

from __future__ import annotations

import logging
import time

from celery_cascade.errors import SchemaOutOfDate, StoreUnavailable
from celery_cascade.tasks.runtime import Runtime

logger = logging.getLogger("celery_cascade")

#: Seconds for which a missing store is not asked again: each look may take a connection's whole time-out.
PAUSE = 5.0


def store_usable(runtime: Runtime) -> bool:
    """Whether a start can be durable; False only where `cascade_store_required = False`.

    With the default it is True without a look: the start itself refuses, with the cure. False is told by one warning
    a process.

    Raises:
        StoreDamaged, ConfigError: neither a missing store nor an absent one; nothing may hide that.
    """
    if runtime.config.store_required:
        return True
    state = runtime.degraded
    if time.monotonic() < state.look_again_at:
        return False
    try:
        runtime.store.probe()
    except (SchemaOutOfDate, StoreUnavailable) as error:
        state.look_again_at = time.monotonic() + PAUSE
        if not state.warned:
            state.warned = True
            logger.warning(
                "[cascade] tasks run plain, nothing of them is kept (cascade_store_required is False): %s\n%s",
                error.message,
                error.hint,
            )
        return False
    state.look_again_at = 0.0
    return True
