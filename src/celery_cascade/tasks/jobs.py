"""Our own Celery tasks (R153, R159), for Beat, for the command line, and for programs that only have `send_task`.

They are plain tasks, no steps. Their results are small, and kept where there is a result backend; none is needed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from celery.utils.imports import symbol_by_name

from celery_cascade import embedded
from celery_cascade.definition.cascade import Source
from celery_cascade.errors import UsageError
from celery_cascade.tasks import overtime
from celery_cascade.tasks.degraded import store_usable
from celery_cascade.tasks.plain import run_plain
from celery_cascade.tasks.runtime import Runtime
from celery_cascade.words import shown, suggestion

#: What the tasks call in the layer above, by name, since imports run downwards only: as Celery names what it loads.
_RESUME = "celery_cascade.sessions.resuming:resume_by_task"
_START = "celery_cascade.sessions.starting:start"
_START_PLAIN = "celery_cascade.sessions.plain:start_plain"
_OPTIONS = "celery_cascade.sessions.starting:StartOptions"
_PRUNE = "celery_cascade.sessions.prune:prune"
_DAYS = "celery_cascade.sessions.prune:days_of_age"

RUN_PLAIN = "celery_cascade.run_plain"
NAMES = ("celery_cascade.resume", "celery_cascade.start", "celery_cascade.expire", "celery_cascade.prune", RUN_PLAIN)


def register_jobs(app: Any, runtime: Runtime) -> None:
    """Give `app` our tasks. It is not finalized by this, and its settings are not read."""

    def job(name: str) -> Any:
        return app.task(name=name, shared=False, ignore_result=False, max_retries=0)

    @job("celery_cascade.resume")
    def resume(session_id: str | None = None, force: bool = False) -> dict[str, Any]:
        """Set going again what can go on; with an id and `force`, any session that has not ended.

        Returns {"resumed": [session ids], "skipped": {session id: reason}}.
        """
        found: dict[str, Any] = symbol_by_name(_RESUME)(runtime, session_id, force)
        return found

    @job("celery_cascade.start")
    def start(name: str, inputs: Mapping[str, Any] | None = None, **options: Any) -> str:
        """Start a registered cascade by its id; returns the session's id."""
        options = {"trigger": "task"} | options
        what = runtime, registered(runtime, name), inputs, _checked(options)
        if not store_usable(runtime):
            return str(symbol_by_name(_START_PLAIN)(*what).id)
        session_id: str = symbol_by_name(_START)(*what)
        return session_id

    @job(RUN_PLAIN)
    def plain(run_id: str, source_format: str, body: str, inputs: str) -> Any:
        """All steps of a cascade in this task, while there is no store (`cascade_store_required = False`)."""
        source = Source(body=body.encode("utf-8", "surrogateescape"), format=source_format)  # type: ignore[arg-type]
        return run_plain(runtime, run_id, source, inputs)

    @job("celery_cascade.expire")
    def expire() -> dict[str, int]:
        """End the sessions whose `expires_at` has passed."""
        return {"expired": overtime.expire(runtime)}

    @job("celery_cascade.prune")
    def prune(days: float | None = None, **options: Any) -> dict[str, Any]:
        """Delete sessions past their retention, and what the embedded broker keeps of delivered messages.

        Args:
            days: replaces the ages of `cascade_retention`, for a Beat entry of one's own.
            options: status, cascade, keep_last and dry_run of `Cascades.prune`.
        """
        older_than = None if days is None else symbol_by_name(_DAYS)(days)
        report = dataclasses.asdict(symbol_by_name(_PRUNE)(runtime, older_than=older_than, **_known(options)))
        return report | {"broker_rows": 0 if report["dry_run"] else embedded.prune_spent(app)}


def registered(runtime: Runtime, name: str) -> str:
    """A registered name, as it came over the wire. Never a path: whoever may send a message may not choose files.

    Raises:
        UsageError: there is no such registered cascade.
    """
    if not isinstance(name, str):
        raise UsageError(f"a cascade's name is text, not {shown(name)}", hint="Send its id: ['order', {'order_id': 7}]")
    cascades = getattr(runtime.app, "cascades", None)
    if name not in runtime.registered and cascades is not None:
        cascades.register_configured()
    if name not in runtime.registered:
        raise UsageError(
            f"no cascade is registered as {name!r} in app {runtime.app.main!r}{suggestion(name, runtime.registered)}",
            hint="Register it where the app is made: cascades.register('order.yaml'), or in cascade_definitions",
        )
    return name


def _checked(options: dict[str, Any]) -> Any:
    """The options of a start. Raises UsageError: one of them is none."""
    make = symbol_by_name(_OPTIONS)
    _refuse_unknown("celery_cascade.start", options, [field.name for field in dataclasses.fields(make)])
    return make(**options)


def _known(options: dict[str, Any]) -> dict[str, Any]:
    """The options of a prune. Raises UsageError: one of them is none."""
    _refuse_unknown("celery_cascade.prune", options, ["days", "status", "cascade", "keep_last", "dry_run"])
    return options


def _refuse_unknown(task: str, options: Collection[str], known: Sequence[str]) -> None:
    for option in options:
        if option not in known:
            what = f"{task} has no option {option!r}{suggestion(option, known)}"
            raise UsageError(what, hint=f"One of: {', '.join(known)}")
