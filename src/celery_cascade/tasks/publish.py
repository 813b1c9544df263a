"""Sending the messages of steps. A message is a hint: when sending fails, SQL still says queued and wakes again."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from celery_cascade.crash_points import CrashPoint, reached
from celery_cascade.definition.cascade import Step
from celery_cascade.errors import CascadeError
from celery_cascade.persistence.rows import QueuedStep
from celery_cascade.tasks.attempt import SESSION_HEADER, STEP_HEADER, StepRef
from celery_cascade.tasks.forking import FORKS
from celery_cascade.tasks.runtime import Runtime, SessionFacts

logger = logging.getLogger("celery_cascade")

#: Seconds until a step whose publish failed is tried again.
AFTER_FAILED_PUBLISH = 5.0

_NAMESPACE = uuid.UUID("6f3c1c1e-4b0e-5a57-9d7d-0c5b5e9a7c11")
#: Ids of the sessions whose steps this context runs itself; None among them = all.
_driven: ContextVar[frozenset[str | None]] = ContextVar("celery_cascade_driven", default=frozenset())


@contextmanager
def driving(session_id: str | None = None) -> Iterator[None]:
    """Inside, steps are not published: whoever is inside runs them itself.

    Args:
        session_id: only this session's. A step's body may start others, and those belong to the workers.
    """
    token = _driven.set(_driven.get() | {session_id})
    try:
        yield
    finally:
        _driven.reset(token)


def is_driving(session_id: str) -> bool:
    """Whether this context runs the steps of this session itself."""
    driven = _driven.get()
    return None in driven or session_id in driven


def step_ref(store_id: str, queued: QueuedStep, place: str | None = None) -> StepRef:
    """Which attempt a message is about. The task id is a function of the attempt, so a resend bears the same."""
    key = queued.key
    name = f"{key.session_id}:{key.step}:{key.item}:{queued.attempt}:{queued.epoch}"
    return StepRef(
        store=store_id,
        session=key.session_id,
        step=key.step,
        item=key.item,
        attempt=queued.attempt,
        task_id=str(uuid.uuid5(_NAMESPACE, name)),
        place=place,
    )


def headers_of(ref: StepRef) -> dict[str, Any]:
    """The two headers of a step's message."""
    return {SESSION_HEADER: ref.session, STEP_HEADER: ref.as_header()}


def _users_headers(facts: SessionFacts, step: str) -> dict[str, Any]:
    """The headers that a captured `apply_async(headers=...)` was given; only a canvas has them."""
    plan_step = facts.plan.steps.get(step)
    if plan_step is None or plan_step.call is None:
        return {}
    return dict(facts.inputs[step].get("headers") or {})


class Publisher:
    """Sends queued steps to the broker."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def send(self, queued: Iterable[QueuedStep]) -> int:
        """Send a message for each; one that cannot be sent is woken again soon. Returns how many were sent."""
        if self._runtime.app.conf.task_always_eager:
            return 0  # nobody listens; whoever sets a session going drives it
        sent = 0
        for step in queued:
            if is_driving(step.key.session_id):
                continue
            if sent:
                reached(CrashPoint.FAN_OUT_HALF, step.key)
            reached(CrashPoint.PUBLISH, step.key)
            try:
                with FORKS.apart():  # kombu has locks, and a child would inherit them
                    self._send(step)
                sent += 1
                reached(CrashPoint.PUBLISHED, step.key)
            except CascadeError as error:
                logger.warning("session %s: step %s not sent: %s", step.key.session_id, step.key.step, error)
            except Exception as error:  # noqa: BLE001  each transport has its own, and the step is queued in SQL
                self._later(step, error)
        return sent

    def _send(self, queued: QueuedStep) -> None:
        ref = step_ref(self._runtime.store_id, queued, self._runtime.store.database.place)
        facts = self._runtime.facts(queued.key.session_id)
        self._runtime.app.send_task(
            queued.task,
            args=(),
            kwargs={},
            task_id=ref.task_id,
            root_id=ref.session,
            retries=queued.retries,
            headers=_users_headers(facts, queued.key.step) | headers_of(ref),
            ignore_result=True,
            add_to_parent=False,
            serializer="json",
            **self._options(facts.plan.steps.get(queued.key.step)),
        )

    def _options(self, step: Step | None) -> dict[str, Any]:
        options: dict[str, Any] = dict(step.options) if step else {}
        queue = (step.queue if step else None) or self._runtime.config.queue
        if queue:
            options["queue"] = queue
        if step is not None and step.priority is not None:
            options["priority"] = step.priority
        if step is not None and step.timeout is not None:
            options["time_limit"] = step.timeout
        return options

    def queue_of(self, step: Step) -> str | None:
        """The queue that a step's messages go to; None if the app's routes do not tell."""
        options = self._options(step)
        if "exchange" in options or "routing_key" in options:
            return None
        try:
            queue = self._runtime.app.amqp.router.route(options, step.task, (), {}).get("queue")
        except Exception:  # noqa: BLE001  a router of the user's, or a queue that the app does not have
            return None
        name: str | None = getattr(queue, "name", queue)
        return name

    def _later(self, queued: QueuedStep, error: BaseException) -> None:
        logger.warning(
            "session %s: step %s: the broker did not take its message (%s); tried again in %.0f s",
            queued.key.session_id,
            queued.key.step,
            error,
            AFTER_FAILED_PUBLISH,
        )
        try:
            self._runtime.store.wake_later(queued.key, AFTER_FAILED_PUBLISH)
        except CascadeError:
            logger.info("the store is away too; the step is sent again by its own timer")
