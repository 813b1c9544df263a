"""Starting a session: everything is checked and rendered first, then written at once, then sent."""

from __future__ import annotations

import difflib
import json
import logging
import os
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from celery_cascade import events
from celery_cascade.definition.cascade import Cascade, Source
from celery_cascade.definition.inputs import check_inputs
from celery_cascade.definition.plan import Plan, make_plan
from celery_cascade.definition.reader import read_cascade
from celery_cascade.definition.source import from_mapping, read_file
from celery_cascade.engine.advance import advance
from celery_cascade.engine.decision import Decision, Facts, Started
from celery_cascade.errors import DefinitionError, SessionConflict, SessionNotFound, UsageError
from celery_cascade.persistence import codec
from celery_cascade.persistence.rows import NewSession, NewStep, QueuedStep, StepKey
from celery_cascade.sessions.execution_key import execution_key
from celery_cascade.sessions.ids import check_session_id, new_session_id
from celery_cascade.states import FINAL_SESSION
from celery_cascade.tasks.patience import patiently
from celery_cascade.tasks.publish import is_driving
from celery_cascade.tasks.runtime import Runtime, SessionFacts
from celery_cascade.tasks.settling import settle

logger = logging.getLogger("celery_cascade")

Target = str | os.PathLike[str] | Mapping[str, Any] | Source


@dataclass(frozen=True, slots=True, kw_only=True)
class StartOptions:
    """What a caller may say about a session besides its cascade and inputs."""

    session_id: str | None = None
    name: str | None = None
    mode: str = "cascade"
    tags: Sequence[str] = ()
    thread_id: str | None = None
    resource_id: str | None = None
    idempotency_key: str | None = None
    expires_in: float | None = None
    trigger: str = "python"


@dataclass(frozen=True, slots=True, kw_only=True)
class Beginning:
    """A session as it is about to be written."""

    source: Source
    cascade: Cascade
    facts: SessionFacts
    decision: Decision
    input_text: str


def read_target(runtime: Runtime, target: Target) -> Source:
    """The bytes of what is to be started: a file, a mapping, or a registered name."""
    if isinstance(target, Source):
        return target
    if isinstance(target, Mapping):
        return from_mapping(target)
    text = os.fspath(target)
    if text in runtime.registered:
        text = runtime.registered[text]
    elif Path(text).suffix.lower() not in (".yaml", ".yml", ".json") and not Path(text).is_file():
        near = difflib.get_close_matches(text, runtime.registered, n=1)
        raise DefinitionError(
            f"{text!r} is neither a cascade file nor a registered cascade"
            + (f"; did you mean {near[0]!r}?" if near else ""),
            hint="Give the path of a .yaml or .json file, or register it first: cascades.register('order.yaml')",
        )
    return read_file(text, runtime.config.max_definition_bytes)


def begin(runtime: Runtime, target: Target, inputs: Mapping[str, Any] | None, session_id: str) -> Beginning:
    """Check and render everything of a start; nothing is written yet.

    Raises:
        DefinitionError, InputError, TemplateError, NotSerializable, PayloadTooLarge
    """
    source = read_target(runtime, target)
    cascade = read_cascade(source)
    plan = make_plan(cascade)
    check_tasks(runtime, plan, source)
    given = check_inputs(cascade, {} if inputs is None else inputs)
    input_text = codec.encode_limited(given, what="inputs", limit=runtime.config.max_payload_bytes)
    facts = SessionFacts(session_id=session_id, plan=plan, inputs=codec.decode(input_text), digest=source.digest)
    decision = advance(plan, Facts(session_id=session_id, inputs=facts.inputs), Started())
    for failed in decision.fail:
        raise failed.error
    return Beginning(source=source, cascade=cascade, facts=facts, decision=decision, input_text=input_text)


def check_tasks(runtime: Runtime, plan: Plan, source: Source) -> None:
    """Every task of the cascade is registered. Raises DefinitionError with the nearest right name."""
    app = runtime.app
    app.loader.import_default_modules()
    app.finalize(auto=True)
    known = app.tasks
    where = source.path or "the cascade"
    for step in plan.steps.values():
        if step.task in known:
            continue
        near = difflib.get_close_matches(step.task, [name for name in known if not name.startswith("celery.")], n=1)
        raise DefinitionError(
            f"{where}: step {step.id!r}: task {step.task!r} is not registered in app {app.main!r}"
            + (f"; did you mean {near[0]!r}?" if near else ""),
            hint="See what is registered with: celery -A <app> cascade doctor --tasks",
        )


def start(
    runtime: Runtime, target: Target, inputs: Mapping[str, Any] | None = None, options: StartOptions | None = None
) -> str:
    """Write a session and send its first steps; returns its id.

    With a `session_id` that exists already, the unfinished session of the same definition and inputs is returned
    as it is; anything else is a SessionConflict (R12).
    """
    options = options or StartOptions()
    session_id = new_session_id() if options.session_id is None else check_session_id(options.session_id)
    _check(options)
    beginning = begin(runtime, target, inputs, session_id)
    new = _new_session(beginning, options, session_id)
    rows = _rows(runtime, beginning)
    resend = None if is_driving() else runtime.config.resend_after
    patience = runtime.config.database_patience
    try:
        patiently(
            lambda: runtime.store.start(new, rows, worker=runtime.worker_id, resend_after=resend),
            seconds=patience,
            what=f"start of session {session_id}",
        )
    except SessionConflict as conflict:
        return _existing(runtime, beginning, options, conflict)
    runtime.remember(beginning.facts)
    events.session_started.send(runtime.app, session_id=session_id, cascade_id=beginning.cascade.id)
    runtime.publisher.send(
        QueuedStep(key=StepKey(session_id, row.step), task=row.task) for row in rows if row.status == "queued"
    )
    if len(beginning.decision.skip) == len(beginning.facts.plan.steps):
        settle(runtime, session_id)
    return session_id


_LENGTHS = {"name": 255, "thread_id": 255, "resource_id": 255, "idempotency_key": 255, "mode": 50}


def _check(options: StartOptions) -> None:
    for name, longest in _LENGTHS.items():
        value = getattr(options, name)
        if value is not None and (not isinstance(value, str) or not 0 < len(value) <= longest):
            raise UsageError(f"{name} is {value!r}; it must be text of 1 to {longest} characters")
    if isinstance(options.tags, str) or not all(isinstance(tag, str) for tag in options.tags):
        raise UsageError(f"tags is {options.tags!r}; it must be a list of texts")
    if options.expires_in is not None and not options.expires_in > 0:
        raise UsageError(f"expires_in is {options.expires_in!r}; it must be more than 0 seconds")


def _new_session(beginning: Beginning, options: StartOptions, session_id: str) -> NewSession:
    source = beginning.source
    return NewSession(
        session_id=session_id,
        cascade_id=beginning.cascade.id,
        name=options.name,
        digest=source.digest,
        format=source.format,
        body=source.body,
        input_data=beginning.input_text,
        nonce=uuid.uuid4().hex,
        total_steps=len(beginning.facts.plan.steps),
        closed_steps=len(beginning.decision.skip),
        config_path=source.path,
        mode=options.mode,
        tags=json.dumps(list(options.tags)) if options.tags else None,
        trigger=options.trigger,
        thread_id=options.thread_id,
        resource_id=options.resource_id,
        idempotency_key=options.idempotency_key,
        execution_key=None if source.path is None else execution_key([source.path]),
        expires_in=options.expires_in,
    )


def _rows(runtime: Runtime, beginning: Beginning) -> list[NewStep]:
    """Roots, and every join with its counter; what has one need is inserted when that need ends."""
    plan, decision = beginning.facts.plan, beginning.decision
    rows = [runtime.runner.new_step(beginning.facts, queued.step, queued.call) for queued in decision.queue]
    for skip in decision.skip:
        rows.append(NewStep(step=skip.step, status="skipped", task=plan.steps[skip.step].task, reason=skip.reason))
    for join in plan.joins:
        left = len(plan.steps[join].needs) - decision.arrive.get(join, 0)
        status = "pending" if left else "queued"
        rows.append(NewStep(step=join, status=status, task=plan.steps[join].task, needs_left=left))
    return rows


def _existing(runtime: Runtime, beginning: Beginning, options: StartOptions, conflict: SessionConflict) -> str:
    """The session that is there already, if it is the same run and not finished."""
    if options.session_id is None:
        raise conflict
    try:
        row = runtime.store.session(options.session_id)
    except SessionNotFound:
        raise conflict from None
    same = row["definition_digest"] == beginning.source.digest and row["input_data"] == beginning.input_text
    if same and row["status"] not in FINAL_SESSION:
        logger.info("session %s exists and is not finished: it goes on", options.session_id)
        return options.session_id
    what = f"has ended ({row['status']})" if same else "has another definition or other inputs"
    raise SessionConflict(
        f"session {options.session_id} exists already and {what}",
        hint=(
            f"Look at it with: cascade show {options.session_id}\n"
            "To run it anew (rerun) or from a step on (fork), start it with the same inputs under a new id"
        ),
    ) from None
