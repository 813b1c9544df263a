"""Starting a session: everything is checked and rendered first, then written at once, then sent."""

from __future__ import annotations

import json
import logging
import os
import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta
from typing import Any, TypeAlias

from celery.canvas import Signature

from celery_cascade.crash_points import CrashPoint, reached
from celery_cascade.definition.cascade import Cascade, Source
from celery_cascade.definition.inputs import check_inputs
from celery_cascade.definition.locate import WRITTEN, step_error
from celery_cascade.definition.plan import Plan
from celery_cascade.definition.source import from_mapping, read_file
from celery_cascade.engine.advance import advance
from celery_cascade.engine.decision import Decision, Facts, Started
from celery_cascade.errors import SessionConflict, SessionNotFound, UsageError
from celery_cascade.persistence import codec
from celery_cascade.persistence.checked import context_text
from celery_cascade.persistence.rows import NewSession, NewStep
from celery_cascade.sessions.canvas import Sent, source_of
from celery_cascade.sessions.execution_key import execution_key, is_path
from celery_cascade.sessions.expiry import check_life, check_moment
from celery_cascade.sessions.hiding import hiding_in_errors
from celery_cascade.sessions.ids import check_text, id_or_new
from celery_cascade.sessions.in_thread import in_its_thread, waits_for_its_turn
from celery_cascade.sessions.launching import after_commit, launch, resend_after
from celery_cascade.sessions.registry import path_of
from celery_cascade.states import FINAL_SESSION, SessionStatus
from celery_cascade.tasks.arguments import mismatch
from celery_cascade.tasks.calls import encoded_call
from celery_cascade.tasks.current import current_attempt
from celery_cascade.tasks.patience import patiently
from celery_cascade.tasks.propagate import session_of_caller
from celery_cascade.tasks.publish import is_driving
from celery_cascade.tasks.runtime import Runtime, SessionFacts
from celery_cascade.tasks.turns import begin_turns
from celery_cascade.words import shown, suggestion

logger = logging.getLogger("celery_cascade")

Target: TypeAlias = str | os.PathLike[str] | Mapping[str, Any] | Source | Signature


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
    expires_at: datetime | None = None
    queue: bool = False
    trigger: str = "python"
    context: Mapping[str, Any] | None = None
    files: Sequence[str] = ()  #: the whole set that it was started from; () = the definition's own file


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
    if not isinstance(target, (str, os.PathLike)) or not isinstance(os.fspath(target), str):
        raise UsageError(
            f"{shown(target)} cannot be started",
            hint="Give the path of a cascade file, a registered name, or a mapping with `cascade` and `steps`",
        )
    return read_file(path_of(runtime, target), runtime.config.max_definition_bytes)


def begin(
    runtime: Runtime, target: Target, inputs: Mapping[str, Any] | None, session_id: str, sent: Sent | None = None
) -> Beginning:
    """Check and render everything of a start; nothing is written yet.

    Args:
        sent: what a captured send passes on to its signature.

    Raises:
        DefinitionError, InputError, TemplateError, NotSerializable, PayloadTooLarge
    """
    if isinstance(target, Signature):
        source, inputs = _read_signature(runtime, target, inputs, sent)
    else:
        source = read_target(runtime, target)
    plan = runtime.plan_of(source)
    check_tasks(runtime, plan, source)
    given = check_inputs(plan.cascade, {} if inputs is None else inputs, runtime.secret_keys)
    input_text = codec.encode_limited(given, what="inputs", limit=runtime.config.max_payload_bytes)
    facts = SessionFacts(session_id=session_id, plan=plan, inputs=codec.decode(input_text), digest=source.digest)
    decision = advance(plan, Facts(session_id=session_id, inputs=facts.inputs), Started())
    for failed in decision.fail:
        with hiding_in_errors(runtime, input_text):
            raise failed.error
    return Beginning(source=source, cascade=plan.cascade, facts=facts, decision=decision, input_text=input_text)


def _read_signature(
    runtime: Runtime, signature: Signature, inputs: Mapping[str, Any] | None, sent: Sent | None
) -> tuple[Source, dict[str, Any]]:
    if inputs is not None:
        raise UsageError(
            "a canvas brings its own arguments; it takes no inputs", hint="Put them into its signatures: charge.s(7)"
        )
    return source_of(signature, runtime.tasks, sent or Sent(), max_bytes=runtime.config.max_definition_bytes)


def check_tasks(runtime: Runtime, plan: Plan, source: Source, left_out: Collection[str] = ()) -> None:
    """Every task of the cascade is registered, and takes its arguments. Raises DefinitionError with the right name.

    Args:
        left_out: steps that are not going to run.
    """
    known = runtime.tasks
    for step in plan.steps.values():
        if step.id in left_out:
            continue
        if step.task not in known:
            near = suggestion(step.task, (name for name in known if not name.startswith("celery.")))
            what = f"step {step.id!r}: task {step.task!r} is not registered in app {runtime.app.main!r}{near}"
            hint = "See what is registered with: celery -A <app> cascade doctor --tasks"
            raise step_error(source, step.id, ("task",), what, hint=hint)
        wrong = mismatch(known[step.task], step.arguments) if source.format in WRITTEN else None
        if wrong is not None and wrong.certain:
            raise step_error(source, step.id, ("with", wrong.key or ""), f"step {step.id!r}: {wrong.what}")


def start(
    runtime: Runtime,
    target: Target,
    inputs: Mapping[str, Any] | None = None,
    options: StartOptions | None = None,
    *,
    here: bool = False,
    sent: Sent | None = None,
) -> str:
    """Write a session and send its first steps; returns its id.

    In a thread whose session has not ended it is a conflict, or with `queue` it waits: suspended, for `signal`, until
    that has ended (D12).

    With a `session_id` that exists already, the unfinished session of the same definition and inputs is returned
    as it is; anything else is a SessionConflict (R12).

    Args:
        runtime: of the app.
        target: what to start.
        inputs: what it is started with.
        options: whatever else there is to say.
        here: run it in this process before this returns, as `task_always_eager` does for every session.
        sent: what a captured `.delay()` passes on to its signature.
    """
    options = options or StartOptions()
    session_id = id_or_new(options.session_id)
    check_options(options)
    options = in_its_thread(options, here=here or is_driving(session_id))
    check_moment(runtime, options.expires_at, options.expires_in)
    beginning = begin(runtime, target, inputs, session_id, sent)
    launch(runtime, session_id, lambda: _write(runtime, beginning, options), here=here)
    return session_id


def _write(runtime: Runtime, beginning: Beginning, options: StartOptions) -> str:
    session_id = beginning.facts.session_id
    new = _new_session(runtime, beginning, options, session_id)
    rows = _rows(runtime, beginning)
    resend = resend_after(runtime, session_id)
    patience = runtime.config.database_patience
    try:
        patiently(
            lambda: runtime.store.start(new, rows, worker=runtime.worker_id, resend_after=resend),
            seconds=patience,
            what=f"start of session {session_id}",
        )
    except SessionConflict as conflict:
        return _existing(runtime, beginning, options, conflict)
    threaded = options.thread_id is not None
    facts = replace(beginning.facts, threaded=threaded, heir=threaded or new.parent_session_id is not None)
    if facts.threaded and waits_for_its_turn(runtime, session_id):
        runtime.remember(facts)
        reached(CrashPoint.STARTED)
        begin_turns(runtime, [session_id])  # in case that what it waits for has ended in this very moment
        return session_id
    ended = len(beginning.decision.skip) == len(beginning.facts.plan.steps)
    after_commit(runtime, facts, rows, ended=ended, point=CrashPoint.STARTED)
    return session_id


_LENGTHS = {"name": 255, "thread_id": 255, "resource_id": 255, "idempotency_key": 255, "mode": 50, "trigger": 50}


def start_options(**given: Any) -> StartOptions:
    """Options by name, from code or over the wire; `expires_in` may be a timedelta. Raises UsageError."""
    known = [item.name for item in fields(StartOptions)]
    for name in given:
        if name not in known:
            raise UsageError(
                f"a start has no option {name!r}{suggestion(name, known)}", hint=f"One of: {', '.join(known)}"
            )
    expires_in = given.get("expires_in")
    if isinstance(expires_in, timedelta):
        given["expires_in"] = expires_in.total_seconds()
    return StartOptions(**given)


def check_options(options: StartOptions) -> None:
    """Refuse what cannot be stored. Raises UsageError."""
    if not isinstance(options.mode, str) or not isinstance(options.trigger, str):
        raise UsageError("mode and trigger must be text")
    for name, longest in _LENGTHS.items():
        check_text(getattr(options, name), name, longest)
    tags = options.tags
    if not isinstance(tags, (list, tuple, set, frozenset)) or not all(isinstance(tag, str) for tag in tags):
        raise UsageError(f"tags is {tags!r}; it must be a list of texts")
    for tag in tags:
        check_text(tag, "a tag", 255)
    if options.context is not None and not isinstance(options.context, Mapping):
        raise UsageError(f"context is {shown(options.context)}; it must be a mapping", hint="For example: {'n': 1}")
    _check_files(options.files)
    check_life(options.expires_in)


def _check_files(files: Any) -> None:
    if not isinstance(files, (list, tuple)) or not all(is_path(path) for path in files):
        raise UsageError(f"files is {shown(files)}; it must be a list of paths")


def _new_session(runtime: Runtime, beginning: Beginning, options: StartOptions, session_id: str) -> NewSession:
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
        execution_key=_execution_key(options.files or [source.path]),
        expires_in=options.expires_in,
        expires_at=options.expires_at,
        queue=options.queue,
        context=context_text(options.context, "context", runtime.config.max_payload_bytes) if options.context else None,
        **parentage(runtime),
    )


def _execution_key(paths: Sequence[str | None]) -> str | None:
    known = [path for path in paths if path is not None]
    return execution_key(known) if known else None


def parentage(runtime: Runtime) -> dict[str, Any]:
    """Whose step or spawned task starts this session, if one does (R10)."""
    parent = session_of_caller()
    if parent is None:
        return {}
    try:
        row = runtime.store.session(parent)
    except SessionNotFound:  # of another store, or deleted in the meantime
        return {}
    attempt = current_attempt()
    step = attempt.ref.step if attempt is not None and attempt.ref.session == parent else None
    root = row["root_session_id"] or parent
    return {
        "parent_session_id": parent, "parent_step": step, "root_session_id": root, "depth": row["depth"] + 1,
    }  # fmt: skip


def _rows(runtime: Runtime, beginning: Beginning) -> list[NewStep]:
    """Roots, and every join with its counter; what has one need is inserted when that need ends."""
    plan, decision = beginning.facts.plan, beginning.decision
    rows = []
    for queued in decision.queue:
        text = encoded_call(runtime, queued.step, queued.call)  # too large: nothing is written
        rows.append(NewStep(step=queued.step, status="queued", task=plan.steps[queued.step].task, call=text))
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
    same = row["definition_digest"] == beginning.source.digest and _same_json(row["input_data"], beginning.input_text)
    if same and row["status"] not in FINAL_SESSION:
        logger.info("session %s exists and is not finished: it goes on", options.session_id)
        return options.session_id
    what = f"has ended ({row['status']})" if same else "has another definition or other inputs"
    hint = f"Look at it with: cascade show {options.session_id}\n"
    if row["status"] == SessionStatus.FAILED:
        hint += f"Try again from its last checkpoint: cascade resume {options.session_id}\n"
    raise SessionConflict(
        f"session {options.session_id} exists already and {what}",
        hint=f"{hint}Run it anew: cascade rerun {options.session_id}\nOr from a step on; see how: cascade fork --help",
    ) from None


def _same_json(one: str | None, other: str) -> bool:
    """Whether two stored values are the same but for the order of keys."""
    if one == other:
        return True
    try:
        return one is not None and _sorted(one) == _sorted(other)
    except ValueError:
        return False


def _sorted(text: str) -> str:
    return json.dumps(json.loads(text), sort_keys=True)
