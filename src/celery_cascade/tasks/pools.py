"""What the worker pools mean to us: which we run on, and whether a claim's holder still lives in this worker."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from celery.concurrency import ALIASES

from celery_cascade.errors import ConfigError
from celery_cascade.persistence.rows import Orphan
from celery_cascade.tasks import identity
from celery_cascade.tasks.runtime import Runtime

_GREEN = frozenset({"gevent", "eventlet"})


def pool_name(pool: Any) -> str:
    """The pool as `-P` names it, from that name or from the pool's class; `custom` for one that is not Celery's."""
    path = pool if isinstance(pool, str) else f"{pool.__module__}:{pool.__qualname__}"
    path = ALIASES.get(path, path)
    return next((name for name, target in ALIASES.items() if target == path), "custom")


def check_pool(name: str) -> None:
    """Refuse a pool that we do not run on yet.

    Raises:
        ConfigError: gevent and eventlet. Without this a heartbeat that is a green thread would stop whenever a task
            computes or a database driver blocks, and other workers would take steps that are still running.
    """
    if name in _GREEN:
        raise ConfigError(
            f"the {name} pool is not yet supported: its heartbeat would be a green thread, which a task that computes, "
            "or a database driver that blocks, stops for so long that the worker looks dead",
            hint="Use prefork, threads or solo: celery -A <app> worker -P threads",
        )


def liveness(runtime: Runtime) -> Callable[[Orphan], bool]:
    """A test for the audit: does the holder of this claim still live in this worker?

    A step in this process (threads, solo) is held as long as its token is open; one in a child (prefork) as long as
    that child exists. Celery's own lists of requests are no evidence: an ignored duplicate removes the running one.
    """

    def is_live(orphan: Orphan) -> bool:
        if orphan.runner == runtime.runner_id:
            return runtime.tokens.is_open(orphan.token)
        return runner_exists(orphan.runner)

    return is_live


def runner_exists(runner: str | None) -> bool:
    """Whether the process of this name ("<pid>.<start time>") is there and has not ended; True when in doubt."""
    pid, _, started = (runner or "").partition(".")
    if not pid.isdecimal():
        return False
    try:
        seen = identity.look_at(int(pid))
    except OSError:
        return _pid_exists(int(pid))
    if seen is None or seen.state in identity.ENDED:
        return False
    return seen.started == started


def _pid_exists(pid: int) -> bool:
    """Without /proc: a dead child's id counts as alive until the pool has collected it, which it does at once."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
