"""A runner that only remembers what the guard told it, and messages as a worker would trace them."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from celery import Celery
from celery.app.trace import build_tracer
from celery.signals import after_task_publish

from celery_cascade.tasks.attempt import SESSION_HEADER, STEP_HEADER, Attempt, RetryAsked, StepRef
from celery_cascade.tasks.guard import install_guard


class RecordingRunner:
    """Claims what is offered; `told` has every report in order, as (word, value)."""

    def __init__(self) -> None:
        self.told: list[tuple[str, Any]] = []
        self.args: Sequence[Any] = ()
        self.kwargs: Mapping[str, Any] = {}
        self.retries = 0
        self.offers = True
        self.delay_after_failure: float | None = None
        self.raises: dict[str, BaseException] = {}

    def claim(self, ref: StepRef, request: Any) -> Attempt | None:
        self._hear("claim", ref)
        if not self.offers:
            return None
        return Attempt(ref=ref, token="t-1", args=self.args, kwargs=self.kwargs, retries=self.retries)

    def succeed(self, attempt: Attempt, value: Any) -> None:
        self._hear("succeed", value)

    def fail(self, attempt: Attempt, error: BaseException) -> float | None:
        self._hear("fail", error)
        return self.delay_after_failure

    def retry(self, attempt: Attempt, asked: RetryAsked) -> float:
        self._hear("retry", asked)
        return asked.delay

    def skip(self, attempt: Attempt) -> None:
        self._hear("skip", None)

    def requeue(self, attempt: Attempt, delay: float) -> None:
        self._hear("requeue", delay)

    def abandon(self, attempt: Attempt, error: BaseException) -> None:
        self._hear("abandon", error)

    def _hear(self, word: str, value: Any) -> None:
        self.told.append((word, value))
        if word in self.raises:
            raise self.raises[word]

    @property
    def words(self) -> list[str]:
        return [word for word, _ in self.told]

    def last(self) -> Any:
        return self.told[-1][1]


def new_app(**conf: Any) -> Celery:
    app = Celery("proj", broker="memory://", backend="cache+memory://", set_as_current=False)
    app.conf.update(conf)
    return app


def guarded_app(**conf: Any) -> tuple[Celery, RecordingRunner]:
    app, runner = new_app(**conf), RecordingRunner()
    install_guard(app, runner)
    return app, runner


def step_headers(task_id: str, **changes: Any) -> dict[str, Any]:
    ref = {"store": "s", "session": "order-7", "step": "charge", "item": -1, "attempt": 1, "task_id": task_id}
    return {SESSION_HEADER: "order-7", STEP_HEADER: {**ref, **changes}}


class Outcome:
    """What Celery made of a message: its answer, and the state in the result backend."""

    def __init__(self, app: Celery, task_id: str, retval: Any, info: Any) -> None:
        self.id, self.retval, self.info = task_id, retval, info
        self.state = info.state if info else "SUCCESS"
        self.stored = app.AsyncResult(task_id).state


def deliver(
    app: Celery, name: str, args: Any = (), kwargs: Any = None, *, task_id: str = "", **headers: Any
) -> Outcome:
    """Trace a message as the pool of a worker does; a message's own headers arrive beside Celery's."""
    task_id = task_id or str(uuid.uuid4())
    tracer = build_tracer(name, app.tasks[name], app=app)
    request = {"id": task_id, "task": name, "delivery_info": {"priority": 0}, "hostname": "w@h", **headers}
    retval, info, *_ = tracer(task_id, list(args), kwargs or {}, request)
    return Outcome(app, task_id, retval, info)


def deliver_step(app: Celery, name: str, *, item: int = -1, **headers: Any) -> Outcome:
    """The message of a step has no arguments: its claim brings them."""
    task_id = str(uuid.uuid4())
    return deliver(app, name, task_id=task_id, **step_headers(task_id, item=item), **headers)


class Published:
    """The headers of what this process publishes while it is open."""

    def __enter__(self) -> Published:
        self.headers: list[dict[str, Any]] = []
        after_task_publish.connect(self._on_publish)
        return self

    def __exit__(self, *exc: object) -> None:
        after_task_publish.disconnect(self._on_publish)

    def _on_publish(self, headers: dict[str, Any], **_: Any) -> None:
        self.headers.append(dict(headers))

    @property
    def names(self) -> list[str]:
        return [headers["task"] for headers in self.headers]
