"""What a fork would be: everything is checked, read and rendered here, and nothing is written."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from celery_cascade.definition.cascade import Source
from celery_cascade.definition.inputs import check_inputs
from celery_cascade.definition.plan import Plan
from celery_cascade.definition.source import read_file
from celery_cascade.engine.branch import Branch, branch, branch_reads, keep
from celery_cascade.engine.decision import Facts
from celery_cascade.errors import CascadeError, InputError, SessionConflict, StoreError, UsageError
from celery_cascade.persistence import codec
from celery_cascade.persistence.origin import Origin
from celery_cascade.persistence.rows import Row
from celery_cascade.sessions.fork_context import context_of_fork
from celery_cascade.sessions.hiding import hiding_in_errors
from celery_cascade.sessions.ids import look_up_id
from celery_cascade.sessions.starting import Target, check_tasks, read_target
from celery_cascade.states import FINAL_STEP, StepStatus
from celery_cascade.tasks.outputs import LazyOutputs
from celery_cascade.tasks.runtime import Runtime, SessionFacts
from celery_cascade.words import listed, shown, suggestion

#: As `definition`: whatever the file says now that the origin was started from (D7).
CURRENT = "current"


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """Where a fork begins, and in what it differs from its origin.

    Args:
        at: this step runs again, and all that depends on it. None = what had not ended well runs.
        from_failure: as `at` with the steps that failed.
        inputs: these replace the origin's inputs of the same names.
        context: these replace the variables of the same names.
        definition: what to run instead: a file, a mapping, a registered name, or `current`. None = the stored one.
        conversation: whether what was said comes along.
    """

    at: str | None = None
    from_failure: bool = False
    inputs: Mapping[str, Any] | None = None
    context: Mapping[str, Any] | None = None
    definition: Target | None = None
    conversation: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A session as it is about to begin in the middle of another, or a rerun of it: then nothing is kept."""

    row: Row
    origin: Origin
    source: Source
    facts: SessionFacts
    input_text: str
    kept: Mapping[str, bool]
    found: Branch
    version: int | None = None
    changed: tuple[str, ...] = ()
    context: str | None = None


def prepare_fork(runtime: Runtime, session_id: str, change: Change, new_id: str, *, idle: bool = False) -> Prepared:
    """Check and render everything of a fork.

    Args:
        runtime: of the app.
        session_id: the origin.
        change: what the caller asks for.
        new_id: of the fork, for its templates.
        idle: whether there may be nothing left to run.

    Raises:
        SessionNotFound, SessionConflict, UsageError, DefinitionError, InputError, TemplateError, PayloadTooLarge
    """
    store = runtime.store
    row = store.session(look_up_id(store, session_id))
    origin, stored = store.origin(session_id), _stored(runtime, row)
    source = stored if change.definition is None else _definition(runtime, row, change.definition)
    old = _old_plan(runtime, row, change)
    plan = old if old is not None and source.digest == stored.digest else runtime.plan_of(source)
    with_it = _with_it(row, source, change)
    at = _where(old, plan, origin, change, with_it)
    kept = {step: origin.ended[step].status is StepStatus.SKIPPED for step in keep(plan, origin.ended, at)}
    if len(kept) == len(plan.steps) and not idle:
        raise _nothing(origin, plan, with_it, stored=change.definition is None)
    check_tasks(runtime, plan, source, kept)
    text = _inputs(runtime, row, plan, change, source)
    inputs = codec.decode(text)
    version = _same_until(origin, kept)
    return Prepared(
        row=row,
        origin=origin,
        source=source,
        facts=SessionFacts(session_id=new_id, plan=plan, inputs=inputs, digest=source.digest, heir=True),
        input_text=text,
        kept=kept,
        found=_rendered(runtime, plan, inputs, new_id, session_id, kept),
        version=version,
        changed=()
        if old is None
        else tuple(step for step in plan.steps if step in kept and old.steps.get(step) != plan.steps[step]),
        context=context_of_fork(store, origin, kept, version, change.context, runtime.config.max_payload_bytes),
    )


def prepare_rerun(runtime: Runtime, session_id: str, new_id: str) -> Prepared:
    """Check and render the start of a session with the stored bytes and inputs of another, as they are (R22).

    Raises:
        SessionNotFound, StoreError, DefinitionError, TemplateError
    """
    store = runtime.store
    row = store.session(look_up_id(store, session_id))
    source = _stored(runtime, row)
    plan, inputs = runtime.plan(source.digest), _decoded(row)
    check_tasks(runtime, plan, source)
    return Prepared(
        row=row,
        origin=store.origin(session_id),
        source=source,
        facts=SessionFacts(session_id=new_id, plan=plan, inputs=inputs, digest=source.digest, heir=True),
        input_text=row["input_data"],
        kept={},
        found=_rendered(runtime, plan, inputs, new_id, session_id, {}),
    )


def _stored(runtime: Runtime, row: Row) -> Source:
    """The stored definition with its path."""
    digest = row["definition_digest"]
    if digest is None:
        raise StoreError(
            f"the definition of session {row['session_id']} is not in the store: it cannot be run again",
            hint=f"Look: cascade show {row['session_id']}",
        )
    body = bytes(runtime.store.definition(digest)["body"])
    return Source(body=body, format=row["definition_format"], path=row["config_path"])


def _old_plan(runtime: Runtime, row: Row, change: Change) -> Plan | None:
    """What the origin runs; None = it cannot be read (any more), and another definition takes its place."""
    try:
        return runtime.plan(row["definition_digest"])
    except CascadeError:
        if change.definition is None:
            raise
        return None


def _definition(runtime: Runtime, row: Row, given: Any) -> Source:
    return _current(runtime, row) if isinstance(given, str) and given == CURRENT else read_target(runtime, given)


def _current(runtime: Runtime, row: Row) -> Source:
    if row["config_path"] is None:
        raise UsageError(
            f"session {row['session_id']} was not started from a file, so there is no current definition of it",
            hint=f"Look: cascade show {row['session_id']}",
        )
    return read_file(row["config_path"], runtime.config.max_definition_bytes)


def current_definition(runtime: Runtime, session_id: str) -> Source:
    """What the file of a session says now. Raises UsageError, DefinitionNotFound, DefinitionError."""
    return _current(runtime, runtime.store.session(look_up_id(runtime.store, session_id)))


def _where(old: Plan | None, plan: Plan, origin: Origin, change: Change, with_it: str) -> frozenset[str]:
    """The steps to fork at; none = after all that ended well."""
    at, look = change.at, f"Look: cascade show {origin.session_id}"
    if change.from_failure:
        if at is not None:
            raise UsageError(f"step {shown(at)} and the failed ones cannot both be where to fork", hint=look)
        failed = frozenset(name for name, step in origin.steps.items() if step.status is StepStatus.FAILED)
        if not failed:
            raise SessionConflict(f"session {origin.session_id}: no step of it has failed", hint=look)
        return failed
    if at is None:
        return frozenset()
    if not isinstance(at, str) or at not in plan.steps:
        gone = old is not None and isinstance(at, str) and at in old.steps
        near = " any more in this definition" if gone else suggestion(str(at), plan.steps, else_list="there are")
        raise UsageError(f"session {origin.session_id} has no step {shown(at)}{near}", hint=look)
    if at not in origin.steps or origin.steps[at].status not in _CAN_BE_FORKED_AT:
        raise _not_ended(origin, plan, at, with_it, new=old is not None and at not in old.steps)
    return frozenset({at})


_CAN_BE_FORKED_AT = frozenset({StepStatus.SUCCEEDED, StepStatus.FAILED, StepStatus.SKIPPED})


def _not_ended(origin: Origin, plan: Plan, at: str, with_it: str, *, new: bool) -> SessionConflict:
    status = origin.steps[at].status.value if at in origin.steps else StepStatus.PENDING.value
    possible = [s for s in plan.steps if s in origin.steps and origin.steps[s].status in _CAN_BE_FORKED_AT]
    what = f"session {origin.session_id}: step {at!r} is {'new in this definition' if new else status}"
    what += "; a fork begins at a step that has ended"
    if not possible:
        return SessionConflict(f"{what}, and none has yet", hint=f"Run it anew: cascade rerun {origin.session_id}")
    return SessionConflict(
        f"{what}: {listed(possible)}",
        hint=f"Run what has not ended, in a fork: cascade fork {origin.session_id}{with_it}\n"
        f"Or from the last that has: cascade fork {origin.session_id} --at {possible[-1]}{with_it}",
    )


def _nothing(origin: Origin, plan: Plan, with_it: str, *, stored: bool) -> SessionConflict:
    ran = [step for step in plan.steps if origin.steps[step].status is StepStatus.SUCCEEDED] or list(plan.steps)
    last = max(ran, key=lambda step: origin.steps[step].version)
    whose, anew = "of it", f"\nOr run it anew: cascade rerun {origin.session_id}"
    if not stored:  # the session itself may have other steps, which a rerun runs
        whose, anew = "that this definition has", ""
    return SessionConflict(
        f"session {origin.session_id}: every step {whose} has ended well{'' if stored else ' there'}, so a fork "
        "would have nothing to run",
        hint=f"Say from which step on: cascade fork {origin.session_id} --at {last}{with_it}{anew}",
    )


def _with_it(row: Row, source: Source, change: Change) -> str:
    """What a command needs besides, to be about the same definition."""
    if change.definition is None or source.path is None:
        return ""
    if source.path == row["config_path"]:
        return " --use-current-definition"
    return f" --definition {shlex.quote(source.path)}"


def _same_until(origin: Origin, kept: Mapping[str, bool]) -> int:
    """The version of the origin up to which the two have the same history; its first one they always share."""
    others = [step.version for name, step in origin.steps.items() if name not in kept and step.status in FINAL_STEP]
    return max(1, min(others) - 1) if others else origin.version


def _inputs(runtime: Runtime, row: Row, plan: Plan, change: Change, source: Source) -> str:
    """The inputs as they are stored; untouched ones byte for byte."""
    same = source.digest == row["definition_digest"]
    if change.inputs is None and same:
        text: str = row["input_data"]
        return text
    if source.format == "canvas":
        raise UsageError(
            f"session {row['session_id']} runs a canvas, whose arguments are part of it; it takes no inputs",
            hint="Start the canvas with other arguments instead",
        )
    given = {} if change.inputs is None else change.inputs
    if not isinstance(given, Mapping):
        raise InputError(f"the inputs of cascade {plan.cascade.id!r} must be a mapping, not {shown(given)}")
    before, declared = _decoded(row), plan.cascade.inputs
    if not same and declared is not None:  # another definition need not know all of the origin's
        before = {name: value for name, value in before.items() if name in declared}
    checked = check_inputs(plan.cascade, {**before, **given}, runtime.secret_keys)
    return codec.encode_limited(checked, what="inputs", limit=runtime.config.max_payload_bytes)


def _decoded(row: Row) -> dict[str, Any]:
    try:
        inputs: dict[str, Any] = codec.decode(row["input_data"])
        return inputs
    except StoreError as error:
        raise StoreError(f"session {row['session_id']}: its inputs: {error.message}", hint=error.hint) from error


def _rendered(
    runtime: Runtime, plan: Plan, inputs: Mapping[str, Any], new_id: str, origin: str, kept: Mapping[str, bool]
) -> Branch:
    outputs = LazyOutputs(runtime.store, origin, branch_reads(plan, kept))
    found = branch(plan, Facts(session_id=new_id, inputs=inputs, outputs=outputs), kept)
    for failed in found.fail:
        given = codec.encode(dict(inputs), what="inputs")
        with hiding_in_errors(runtime, given, *runtime.store.payloads(runtime.store.with_forebears([origin]))):
            raise failed.error
    return found
