"""Forks and reruns: a new session that begins in the middle of another, or anew with the same bytes and inputs."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from celery_cascade.crash_points import CrashPoint
from celery_cascade.persistence import codec
from celery_cascade.persistence.fork import NewFork
from celery_cascade.persistence.head import Action
from celery_cascade.persistence.rows import NewSession, NewStep
from celery_cascade.sessions.branching import Change, Prepared, prepare_fork, prepare_rerun
from celery_cascade.sessions.execution_key import execution_key
from celery_cascade.sessions.ids import DEFAULT_RESOURCE, check_text, id_or_new, new_session_id
from celery_cascade.sessions.launching import after_commit, launch, resend_after
from celery_cascade.sessions.starting import StartOptions, check_options, parentage
from celery_cascade.states import SuspendReason
from celery_cascade.tasks.calls import encoded_call
from celery_cascade.tasks.patience import patiently
from celery_cascade.tasks.runtime import Runtime


@dataclass(frozen=True, slots=True, kw_only=True)
class ForkPlan:
    """What a fork would do.

    Attributes:
        session_id: of the origin.
        version: of the origin, up to which the two would have the same history.
        step: at which it would fork; None = after all that had ended well.
        kept: steps whose results it would take over, in the order of the file, as the others.
        runs: steps that would run, those included that depend on one that does.
        skipped: steps that it would not run, for their `when` or because all they need is skipped.
        in_doubt: of `runs` those that are in doubt in the origin: they may have done their work, and do it again.
        changed: kept steps of which the definition says something else than the origin's.
        definition_sha256: of what it would run.
        inputs: that it would run with.
    """

    session_id: str
    version: int
    step: str | None
    kept: tuple[str, ...]
    runs: tuple[str, ...]
    skipped: tuple[str, ...]
    in_doubt: tuple[str, ...]
    changed: tuple[str, ...]
    definition_sha256: str
    inputs: Mapping[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """As `fork --dry-run --json` shows it."""
        return {
            "forked_from": self.session_id,
            "forked_version": self.version,
            "forked_step": self.step,
            "kept": list(self.kept),
            "runs": list(self.runs),
            "skipped": list(self.skipped),
            "in_doubt": list(self.in_doubt),
            "changed": list(self.changed),
            "definition_sha256": self.definition_sha256,
            "inputs": codec.to_plain(dict(self.inputs), what="inputs"),
        }


def plan_fork(runtime: Runtime, session_id: str, change: Change) -> ForkPlan:
    """What `fork` would do; nothing is written. Raises the same errors."""
    found = prepare_fork(runtime, session_id, change, new_session_id())
    steps = found.facts.plan.steps
    skipped = {skip.step for skip in found.found.skip}
    doubtful = in_doubt(runtime, session_id)
    runs = tuple(step for step in steps if step not in found.kept and step not in skipped)
    return ForkPlan(
        session_id=session_id,
        version=found.version or 1,
        step=change.at,
        kept=tuple(step for step in steps if step in found.kept),
        runs=runs,
        skipped=tuple(step for step in steps if step in skipped),
        in_doubt=tuple(step for step in runs if step in doubtful),
        changed=found.changed,
        definition_sha256=found.source.digest,
        inputs=found.facts.inputs,
    )


def in_doubt(runtime: Runtime, session_id: str) -> set[str]:
    """The steps of a session that wait for a word on whether they have done their work (`on_crash: ask`)."""
    rows = runtime.store.step_changes(session_id, 0)
    return {row["step"] for row in rows if row["reason"] == SuspendReason.IN_DOUBT and row["status"] == "pending"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ForkOptions:
    """What a caller may say about a fork or a rerun besides its change; None = as in the origin."""

    session_id: str | None = None
    name: str | None = None
    tags: Sequence[str] | None = None
    thread_id: str | None = None
    resource_id: str | None = None
    actor: str | None = None
    reason: str | None = None


def fork(
    runtime: Runtime,
    session_id: str,
    change: Change | None = None,
    options: ForkOptions | None = None,
    *,
    idle: bool = False,
) -> str:
    """Write a session that begins with the finished steps of another, and send what is ready; returns its id.

    Args:
        runtime: of the app.
        session_id: the origin, in whatever state; no row of it changes.
        change: where it begins and what is different.
        options: whatever else there is to say.
        idle: whether there may be nothing left to run.

    Raises:
        SessionNotFound: no such session.
        SessionConflict: the step has not ended, nothing would run, the new id is taken, or the thread is in a session
            that runs.
        UsageError: there is no such step.
        DefinitionError, InputError, TemplateError, PayloadTooLarge, NotSerializable: nothing was written.
    """
    change, options = change or Change(), options or ForkOptions()
    new_id = id_or_new(options.session_id)
    found = prepare_fork(runtime, session_id, change, new_id, idle=idle)
    return _carry_out(runtime, found, options, "fork", change)


def rerun(runtime: Runtime, session_id: str, options: ForkOptions | None = None) -> str:
    """Start a session with the stored definition and inputs of another, byte for byte (R22); returns its id.

    Raises:
        SessionNotFound: no such session.
        SessionConflict: the new id is taken, or the thread is in a session that runs.
        DefinitionError: the app does not know its tasks any more.
    """
    options = options or ForkOptions()
    found = prepare_rerun(runtime, session_id, id_or_new(options.session_id))
    return _carry_out(runtime, found, options, "rerun", None)


def _carry_out(runtime: Runtime, found: Prepared, options: ForkOptions, how: str, change: Change | None) -> str:
    about = _options(found, options)
    action = Action(action=how, actor=options.actor, reason=options.reason, detail=_detail(found, change))
    check_text(action.actor, "actor", 255)
    check_text(action.reason, "reason", 10_000)
    new = _new_session(runtime, found, about, how)
    rows = _rows(runtime, found)
    with_turns = change is not None and change.conversation
    taken = NewFork(
        origin=found.origin,
        step=None if change is None else change.at,
        version=found.version,
        kept=tuple(found.kept),
        done=sum(not skipped for skipped in found.kept.values()),
        turns=runtime.store.turns(found.origin.session_id) if with_turns else (),
        action=action,
    )
    launch(runtime, new.session_id, lambda: _write(runtime, found, new, taken, rows))
    return new.session_id


def _write(runtime: Runtime, found: Prepared, new: NewSession, taken: NewFork, rows: Sequence[NewStep]) -> None:
    resend = resend_after(runtime, new.session_id)
    patiently(
        lambda: runtime.store.fork(new, taken, rows, worker=runtime.worker_id, resend_after=resend),
        seconds=runtime.config.database_patience,
        what=f"{new.trigger} of session {taken.origin.session_id}",
    )
    facts = replace(found.facts, threaded=new.thread_id is not None)
    after_commit(runtime, facts, rows, ended=new.closed_steps == new.total_steps, point=CrashPoint.FORKED)


def _options(found: Prepared, given: ForkOptions) -> StartOptions:
    """The options of the new session: what is not given is as in the origin."""
    row = found.row
    resource = row["resource_id"] if given.resource_id is None else given.resource_id
    if given.thread_id is not None and resource is None:
        resource = DEFAULT_RESOURCE
    options = StartOptions(
        name=row["name"] if given.name is None else given.name,
        mode=row["mode"],
        tags=json.loads(row["tags"] or "[]") if given.tags is None else given.tags,
        thread_id=given.thread_id,
        resource_id=resource,
    )
    check_options(options)
    return options


def _new_session(runtime: Runtime, found: Prepared, options: StartOptions, trigger: str) -> NewSession:
    row, source, plan = found.row, found.source, found.facts.plan
    if source.path == row["config_path"]:
        key = row["execution_key"]
    else:
        key = None if source.path is None else execution_key([source.path])
    return NewSession(
        session_id=found.facts.session_id,
        cascade_id=plan.cascade.id,
        name=options.name,
        digest=source.digest,
        format=source.format,
        body=source.body,
        input_data=found.input_text,
        nonce=uuid.uuid4().hex,
        total_steps=len(plan.steps),
        closed_steps=len(found.kept) + len(found.found.skip),
        config_path=source.path,
        mode=options.mode,
        current_phase=_phase(found),
        tags=json.dumps(list(options.tags)) if options.tags else None,
        trigger=trigger,
        thread_id=options.thread_id,
        resource_id=options.resource_id,
        execution_key=key,
        context=found.context,
        **parentage(runtime),
    )


def _phase(found: Prepared) -> str:
    """Of the kept step that was the last to succeed."""
    done = [step for step, skipped in found.kept.items() if not skipped]
    if not done:
        return "init"
    last = found.facts.plan.steps[max(done, key=lambda step: found.origin.steps[step].version)]
    return (last.phase or last.id)[:50]


def _rows(runtime: Runtime, found: Prepared) -> list[NewStep]:
    """What is ready, what is skipped, and the joins that wait; kept steps are copied, not written."""
    steps, outcome = found.facts.plan.steps, found.found
    rows = [
        NewStep(
            step=queue.step,
            status="queued",
            task=steps[queue.step].task,
            call=encoded_call(runtime, queue.step, queue.call),  # too large: nothing is written
        )
        for queue in outcome.queue
    ]
    rows += [
        NewStep(step=skip.step, status="skipped", task=steps[skip.step].task, reason=skip.reason)
        for skip in outcome.skip
    ]
    rows += [
        NewStep(step=join, status="pending", task=steps[join].task, needs_left=left)
        for join, left in outcome.waits.items()
    ]
    return rows


def _detail(found: Prepared, change: Change | None) -> str:
    """What the new session's record says of where it comes from."""
    about: dict[str, Any] = {"from": found.origin.session_id}
    if change is not None:
        about |= {"step": change.at, "version": found.version, "kept": len(found.kept)}
        about |= {name: sorted(value) for name in ("inputs", "context") if (value := getattr(change, name))}
        about |= {"definition": found.source.digest} if change.definition is not None else {}
    return codec.encode(about, what="the record of a fork")
