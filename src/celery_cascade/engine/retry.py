"""How long to wait before trying again: after a failure, a crash, or a message that nobody took. Pure.

All delays are seconds without jitter; the store adds them to its own clock.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import assert_never

from celery_cascade.definition.cascade import RetryPolicy

MAX_CRASH_DELAY = 60.0

#: Beyond 2**1000 a delay is cut off anyway, and a float would overflow.
_MAX_DOUBLINGS = 1000


def after_failure(policy: RetryPolicy, failures: int, error_names: Collection[str]) -> float | None:
    """Seconds until the next attempt, or None to give up.

    Args:
        policy: what the step's `retry:` says.
        failures: failed attempts so far, this one included.
        error_names: what the error may be called; see the function `error_names`.
    """
    if failures >= policy.max_attempts:
        return None
    if policy.errors and not any(name in error_names for name in policy.errors):
        return None
    return min(_backoff(policy, failures), policy.max_delay)


def crash_delay(crashes: int) -> float:
    """Seconds until a step that lost its worker `crashes` times is queued again: 0, 1, 2, 4 … 60."""
    if crashes <= 1:
        return 0.0
    return min(_doubled(1.0, crashes - 2), MAX_CRASH_DELAY)


def error_names(error: BaseException) -> frozenset[str]:
    """What `errors:` may call this error: its class and every base, short and qualified."""
    classes = type(error).__mro__[:-1]  # without `object`
    return frozenset(
        name for cls in classes for name in (cls.__name__, cls.__qualname__, f"{cls.__module__}.{cls.__qualname__}")
    )


def _backoff(policy: RetryPolicy, failures: int) -> float:
    match policy.backoff:
        case "none":
            return policy.delay
        case "linear":
            return policy.delay * failures
        case "exponential":
            return _doubled(policy.delay, failures - 1)
        case _:
            assert_never(policy.backoff)


def _doubled(first: float, times: int) -> float:
    return first * 2.0 ** min(max(times, 0), _MAX_DOUBLINGS)
