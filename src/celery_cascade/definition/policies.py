"""What `@cascades.step(...)` says of a task: the defaults of its steps, wherever they stand."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from typing import Any, cast

from celery_cascade.definition import durations, json_document
from celery_cascade.definition.cascade import Cascade, OnCrash, RetryPolicy, Step
from celery_cascade.definition.document import Document
from celery_cascade.definition.places import Text
from celery_cascade.definition.retries import policy, retry_fields
from celery_cascade.definition.steps import ON_CRASH
from celery_cascade.errors import ConfigError, DefinitionError
from celery_cascade.words import listed

KEYS = ("retry", "timeout", "queue", "priority", "on_crash")


@dataclass(frozen=True, slots=True, kw_only=True)
class StepPolicy:
    """The defaults of a task's steps; None = as the definition says, else as Celery has it.

    Attributes:
        retry: when a failed attempt is tried again.
        timeout: seconds an attempt may take.
        queue, priority: of its messages.
        on_crash: what happens when a worker dies in the middle of the step.
        durable: whether a plain `.delay()` outside a session runs as a session.
    """

    retry: RetryPolicy | None = None
    timeout: float | None = None
    queue: str | None = None
    priority: int | None = None
    on_crash: OnCrash | None = None
    durable: bool = True

    def as_json(self) -> dict[str, Any]:
        """What a stored canvas keeps of it: only what is said."""
        said = {key: getattr(self, key) for key in KEYS if getattr(self, key) is not None}
        if self.retry is not None:
            said["retry"] = asdict(self.retry)
        return said


def step_policy(
    where: str,
    *,
    retry: Any,
    timeout: Any,
    queue: Any,
    priority: Any,
    on_crash: Any,
    idempotent: Any,
    durable: Any,
) -> StepPolicy:
    """The checked options of `@cascades.step`.

    Args:
        where: whose they are, for errors.
        retry: a number of attempts, a mapping as in a file, or a RetryPolicy.
        timeout: seconds, `5m` or a timedelta.
        idempotent: False = running it twice does harm; then `on_crash` is `ask`, unless it says `fail`.

    Raises:
        ConfigError: one of them cannot be used.
    """
    if queue is not None and (not isinstance(queue, str) or not 0 < len(queue) <= 255):
        raise ConfigError(f"{where}: queue is {queue!r}; it must be the name of a queue")
    if priority is not None and (
        isinstance(priority, bool) or not isinstance(priority, int) or not 0 <= priority <= 255
    ):
        raise ConfigError(f"{where}: priority is {priority!r}; it must be a whole number from 0 to 255")
    if not isinstance(durable, bool):
        raise ConfigError(f"{where}: durable is {durable!r}; it must be True or False")
    return StepPolicy(
        retry=None if retry is None else _retry(where, retry),
        timeout=None if timeout is None else _timeout(where, timeout),
        queue=queue,
        priority=priority,
        on_crash=_on_crash(where, on_crash, idempotent),
        durable=durable,
    )


def _on_crash(where: str, given: Any, idempotent: Any) -> OnCrash | None:
    """What was said, or what follows from `idempotent`."""
    if not isinstance(idempotent, bool):
        raise ConfigError(f"{where}: idempotent is {idempotent!r}; it must be True or False")
    if given is not None and given not in ON_CRASH:
        raise ConfigError(f"{where}: on_crash is {given!r}; it must be one of {listed(ON_CRASH)}")
    if idempotent:
        return cast("OnCrash | None", given)
    if given == "retry":
        raise ConfigError(
            f"{where}: idempotent=False and on_crash='retry' contradict each other: a step whose worker dies may have "
            "done its work already, and would do it a second time",
            hint="Say on_crash='ask' (an operator decides) or 'fail', or leave idempotent out if a second time does no "
            "harm",
        )
    return cast(OnCrash, given or "ask")


def _retry(where: str, given: Any) -> RetryPolicy:
    """By way of the file format's own reader, so that both understand and refuse the same."""
    if isinstance(given, RetryPolicy):
        given = asdict(given)
    try:
        return retry_from(where, json.loads(json.dumps(given, default=_plain)))
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{where}: retry is {given!r}: {error}") from error
    except DefinitionError as error:
        raise ConfigError(f"{where}: {error.message}", hint=error.hint) from error


def retry_from(where: str, plain: Any) -> RetryPolicy:
    """A policy from JSON. Raises DefinitionError."""
    document = Document(text := Text(where, json.dumps(plain)), json_document.read(text))
    return policy(document, 0, "retry", retry_fields(document, document.root, "retry"))


def _plain(value: Any) -> Any:
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, type) and issubclass(value, BaseException):
        return value.__qualname__ if value.__module__ == "builtins" else f"{value.__module__}.{value.__qualname__}"
    raise TypeError(f"{value!r} cannot be part of a retry policy")


def _timeout(where: str, given: Any) -> float:
    try:
        return durations.seconds(given.total_seconds() if isinstance(given, timedelta) else given)
    except ValueError as error:
        raise ConfigError(f"{where}: timeout is {given!r}; it {error}") from error


def with_policies(cascade: Cascade, policy_of: Callable[[str], StepPolicy | None]) -> Cascade:
    """The cascade, its steps filled up with what their tasks say and the definition does not."""
    steps = tuple(_filled(step, policy_of(step.task)) for step in cascade.steps)
    return cascade if steps == cascade.steps else replace(cascade, steps=steps)


def _filled(step: Step, found: StepPolicy | None) -> Step:
    if found is None:
        return step
    more = {key: getattr(found, key) for key in KEYS if key not in step.said and getattr(found, key) is not None}
    return replace(step, **more) if more else step
