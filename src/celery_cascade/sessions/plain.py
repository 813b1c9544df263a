"""Starts without a store, where `cascade_store_required = False` allows them (D4, R15): plain, and they say so."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

from celery.result import AsyncResult

from celery_cascade.errors import StoreError
from celery_cascade.persistence.head import Action
from celery_cascade.persistence.rows import Row
from celery_cascade.sessions.context import Context
from celery_cascade.sessions.ids import id_or_new
from celery_cascade.sessions.session import Session
from celery_cascade.sessions.starting import StartOptions, Target, begin
from celery_cascade.states import Halt, SessionStatus
from celery_cascade.tasks.degraded import store_usable
from celery_cascade.tasks.jobs import RUN_PLAIN
from celery_cascade.tasks.plain import run_plain
from celery_cascade.tasks.runtime import Runtime

__all__ = ["PlainRun", "start_plain", "store_usable"]


class PlainRun(Session):
    """What a start returns that is not durable: the message is out, and the store knows nothing of it.

    `.id`, `.get()`, `.result()` and `.ready()` work as far as the app has a result backend. Whatever a `Session` reads
    from its store or does there raises StoreError.
    """

    durable = False

    def __repr__(self) -> str:
        return f"<PlainRun {self.id}>"

    @property
    def _result(self) -> Any:
        return AsyncResult(self.id, app=self._runtime.app)

    def result(self, timeout: float | None = None) -> Any:
        """The output, from the app's result backend. Raises what the failing step has raised."""
        return self._result.get(timeout=timeout)

    def get(self, timeout: float | None = None, propagate: bool = True, **_: Any) -> Any:
        """As `result`."""
        return self._result.get(timeout=timeout, propagate=propagate)

    def ready(self) -> bool:
        """Whether it has ended, by the app's result backend."""
        return bool(self._result.ready())

    def _refuse(self) -> NoReturn:
        raise StoreError(
            f"run {self.id} is not durable, nothing of it is stored: the store was missing when it started, and "
            "cascade_store_required is False",
            hint="Find out why with: cascade doctor",
        )

    def _row(self) -> Row:
        self._refuse()

    def _head(self) -> Row:
        self._refuse()

    @property
    def attempts(self) -> list[dict[str, Any]]:
        """None are kept."""
        self._refuse()

    @property
    def context(self) -> Context:
        """It has none."""
        self._refuse()

    @context.setter
    def context(self, values: Context) -> None:
        self._refuse()

    @property
    def context_history(self) -> list[dict[str, Any]]:
        """It has none."""
        self._refuse()

    @property
    def conversation_history(self) -> list[dict[str, Any]]:
        """It has none."""
        self._refuse()

    def say(self, *_: Any, **__: Any) -> int:
        """Nothing would keep it."""
        self._refuse()

    def to_dict(self, *, redact: bool = True) -> dict[str, Any]:
        """There is nothing to show."""
        self._refuse()

    def resume(self, **_: Any) -> Session:
        """It cannot be."""
        self._refuse()

    def _halt(self, halt: Halt, reason: str | None, action: Action) -> SessionStatus:
        self._refuse()


class PlainResult(PlainRun):
    """The same for a run that has ended in this process."""

    def __init__(self, runtime: Runtime, run_id: str, output: Any) -> None:
        super().__init__(runtime, run_id)
        self._output = output

    def result(self, timeout: float | None = None) -> Any:
        """The output."""
        return self._output

    def get(self, timeout: float | None = None, propagate: bool = True, **_: Any) -> Any:
        """The output."""
        return self._output

    def ready(self) -> bool:
        """It has."""
        return True


def start_plain(
    runtime: Runtime,
    target: Target,
    inputs: Mapping[str, Any] | None,
    options: StartOptions,
    *,
    here: bool = False,
    **sent: Any,
) -> PlainRun:
    """Send all of a cascade as one plain task, or run it here.

    Definition, inputs and task names are checked as for a durable start, with the same errors.
    """
    run_id = id_or_new(options.session_id)
    beginning = begin(runtime, target, inputs, run_id, **sent)
    if here or runtime.app.conf.task_always_eager:
        return PlainResult(runtime, run_id, run_plain(runtime, run_id, beginning.source, beginning.input_text))
    body = beginning.source.body.decode("utf-8", "surrogateescape")
    runtime.app.tasks[RUN_PLAIN].apply_async(
        (run_id, beginning.source.format, body, beginning.input_text), task_id=run_id, queue=runtime.config.queue
    )
    return PlainRun(runtime, run_id)
