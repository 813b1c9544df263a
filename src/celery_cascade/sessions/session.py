"""The handle on one session that users hold."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from celery import states

from celery_cascade.definition.cascade import Source
from celery_cascade.errors import (
    NotResumable,
    SessionFailed,
    SessionTimeout,
    StoreError,
    TemplateError,
    UsageError,
)
from celery_cascade.persistence import codec
from celery_cascade.persistence.checked import new_message
from celery_cascade.persistence.doubts import answers
from celery_cascade.persistence.head import Action
from celery_cascade.persistence.rows import Row
from celery_cascade.sessions import view
from celery_cascade.sessions.answers import NOTHING, answer_from, waiting
from celery_cascade.sessions.branching import Change
from celery_cascade.sessions.comparing import compare_sessions
from celery_cascade.sessions.context import Context
from celery_cascade.sessions.context import history as context_history
from celery_cascade.sessions.deleting import delete
from celery_cascade.sessions.forking import ForkOptions, ForkPlan, fork, plan_fork, rerun
from celery_cascade.sessions.halting import halt_one
from celery_cascade.sessions.hiding import hiding_of
from celery_cascade.sessions.history import History
from celery_cascade.sessions.history.ready import first_seen
from celery_cascade.sessions.ids import check_seconds, look_up_id
from celery_cascade.sessions.replaying import plan_and_remarks, read_history, stored_cascade
from celery_cascade.sessions.resuming import check_action, resume_one
from celery_cascade.sessions.starting import Target
from celery_cascade.states import FINAL_SESSION, Halt, SessionStatus, SuspendReason, waits_its_turn
from celery_cascade.tasks.problems import type_of
from celery_cascade.tasks.runtime import Runtime
from celery_cascade.tasks.sharing import history_of
from celery_cascade.words import listed

#: Seconds between two looks while `result()` waits: soon at first, then rarely.
_FIRST_LOOK, _LONGEST_LOOK = 0.02, 0.5


_PENDING, _STARTED = str(states.PENDING), str(states.STARTED)
_CELERYS: dict[str, str] = {
    SessionStatus.SUSPENDED: _STARTED,
    SessionStatus.COMPLETED: states.SUCCESS,
    SessionStatus.FAILED: states.FAILURE,
    SessionStatus.CANCELLED: states.REVOKED,
    SessionStatus.EXPIRED: states.REVOKED,
}


def again(session_id: str, error: Any) -> str:
    """How to go on after a failure. What a template asks for in vain, a resume asks for again."""
    if isinstance(error, dict) and error.get("type") == type_of(TemplateError):
        return "It keeps the definition that it was started with: mend the file, and start a new session of it"
    return f"Try again from its last checkpoint: cascade resume {session_id}"


class Session:
    """One run of a cascade. Every attribute is read from the store when it is asked for.

    Made by `cascades.start(...)` or `cascades.session(id)`.
    """

    #: False only for what runs plain because the store is missing; see `cascade_store_required`.
    durable = True

    def __init__(self, runtime: Runtime, session_id: str) -> None:
        self._runtime = runtime
        self.id = session_id

    def __repr__(self) -> str:
        return f"<Session {self.id}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Session) and other.id == self.id and other._runtime is self._runtime

    def __hash__(self) -> int:
        return hash(self.id)

    # -- reading
    def _row(self) -> Row:
        return self._runtime.store.session(self.id)

    def _head(self) -> Row:
        return self._runtime.store.head(self.id)

    @property
    def status(self) -> SessionStatus:
        """Where it stands."""
        return SessionStatus(self._head()["status"])

    @property
    def reason(self) -> str | None:
        """Why it is suspended or ended early."""
        reason: str | None = self._head()["status_reason"]
        return reason

    @property
    def version(self) -> int:
        """Grows by one with every change."""
        version: int = self._head()["version"]
        return version

    @property
    def continues(self) -> str | None:
        """The session before it in its thread, which it goes on with (D12); None if it is the first."""
        before: str | None = self._row()["continues"]
        return before

    @property
    def inputs(self) -> dict[str, Any]:
        """What it was started with, defaults filled in."""
        inputs: dict[str, Any] = self._decoded(self._row()["input_data"], "inputs") or {}
        return inputs

    @property
    def output(self) -> Any:
        """What it gave; None while it has not completed."""
        return self._decoded(self._row()["output"], "output")

    @property
    def context(self) -> Context:
        """Its variables, read now, as a dict that writes each of its changes if nobody else was first; see `Context`.

        `session.context["n"] += 1` is a compare-and-set: StaleState if the session has changed since it was read.
        Repeat it with `retry_stale`. Several changes are one write in `with session.context as ctx:`.
        """
        return Context(self._runtime.store, self.id, self._runtime.config.max_payload_bytes)

    @context.setter
    def context(self, values: Context) -> None:
        # `session.context |= {…}` has written by the time that Python assigns the result here.
        if not isinstance(values, Context):
            raise UsageError(
                f"session {self.id}: its context is not assigned as a whole",
                hint="Assign keys, or: with session.context as ctx: ctx.clear(); ctx.update(…)",
            )

    @property
    def context_history(self) -> list[dict[str, Any]]:
        """Who changed the context when, oldest first.

        Each is `{version, at, step, actor, changes}`: `step` is None for what was set from outside, by `actor` if that
        was told. Of its `changes` each is `{change, path, value}`: the key at `path` was `set` or `removed`, or the
        value was `added` to the list or mapping there.
        """
        return context_history(self._runtime.store, self.id)

    @property
    def conversation_history(self) -> list[dict[str, Any]]:
        """What was said up to now, oldest first, with the turns of the conversation that this one continues.

        Each is `{"role": …, "content": …}` and whatever else it was said with.
        """
        return history_of(self._runtime.store.conversation(self.id))

    def say(self, role: str, content: Any, *, actor: str | None = None, **extra: Any) -> int:
        """Add a message to the conversation, from outside of its steps; returns its number.

        Args:
            role: who speaks, such as `user`; text of 1 to 50 characters.
            content: what the codec keeps: text, or a list or mapping of yours.
            actor: who does that; None = not told. Kept in `session_actions`.
            extra: whatever else belongs to it.

        Raises:
            SessionConflict: the session is completed, cancelled or expired. A start in its thread goes on from it.
            UsageError, NotSerializable, PayloadTooLarge: it cannot be stored; nothing was.
        """
        action = None if actor is None else Action(action="say", actor=actor)
        if action is not None:
            check_action(action)
        said = new_message(role, content, extra, self._runtime.config.max_payload_bytes)
        return self._runtime.store.say(self.id, said, action)

    def _decoded(self, text: str | None, what: str) -> Any:
        try:
            return None if text is None else codec.decode(text)
        except StoreError as error:
            raise StoreError(f"session {self.id}: its {what}: {error.message}", hint=error.hint) from error

    @property
    def definition(self) -> bytes:
        """The exact bytes that it runs."""
        digest = self._row()["definition_digest"]
        return b"" if digest is None else bytes(self._runtime.store.definition(digest)["body"])

    @property
    def source(self) -> Source:
        """The definition with its format and path."""
        row = self._row()
        return Source(body=self.definition, format=row["definition_format"], path=row["config_path"])

    @property
    def steps(self) -> list[dict[str, Any]]:
        """Its steps in the order of the file, as in `to_dict()["steps"]`, but with their secrets: for programs."""
        steps: list[dict[str, Any]] = self.to_dict(redact=False)["steps"]
        return steps

    @property
    def checkpoints(self) -> list[dict[str, Any]]:
        """Its checkpoints, oldest first."""
        checkpoints: list[dict[str, Any]] = self.to_dict(redact=False)["checkpoints"]
        return checkpoints

    @property
    def attempts(self) -> list[dict[str, Any]]:
        """The attempts that did not succeed, oldest first; as stored, so with their secrets."""
        return [dict(row) for row in self._runtime.store.attempts(self.id)]

    def to_dict(self, *, redact: bool = True) -> dict[str, Any]:
        """Everything as JSON-ready data: the object under `session` in `show --json`.

        Args:
            redact: without what stands under the keys of `cascade_redact`, and without the same values elsewhere;
                False = as it is, for programs. `inputs`, `output`, `steps`, `context` and `attempts` always are.
        """
        store = self._runtime.store
        row = store.session(self.id)
        plan, remarks = plan_and_remarks(self._runtime, row)
        steps, attempts = store.steps(self.id), store.attempts(self.id)
        if not steps:  # a prune may have been between the two looks, and half a session must not look like one
            row = store.session(self.id)
        if plan is None:
            steps = first_seen(steps, attempts)
        whole = view.whole(row, steps, plan, store.now(), store.actions(self.id), attempts) | remarks
        return hiding_of(self._runtime, self.id).view(whole) if redact else whole

    def at(self, version: int, *, redact: bool = True) -> dict[str, Any]:
        """Everything as it was when the session had come to this version, in the shape of `to_dict()`.

        Besides there are `at`, the moment of that version, and `context`, `conversation_history` and `attempts` as of
        then. Read and made anew at each call; to look at many versions, ask `history()` once.

        Args:
            version: the session's, as in its timeline.
            redact: as for `to_dict`.

        Raises:
            UsageError: there is no such version; names the ones there are.
            SessionNotFound: no such session.
        """
        return self.history(redact=redact).at(version)

    def timeline(self) -> list[dict[str, Any]]:
        """What made each version: `[{"version": 2, "at": …, "what": "step a succeeded (attempt 1, 0.2 s)"}, …]`."""
        return self.history().timeline()

    def history(self, *, redact: bool = True) -> History:
        """The session at all its versions, read once: `.latest`, `.at(version)`, `.timeline()`.

        Args:
            redact: as for `to_dict`.

        Raises:
            SessionNotFound: no such session, or nothing is known of it.
        """
        return read_history(self._runtime, self.id, redact=redact)

    def stored_cascade(self) -> dict[str, Any]:
        """What it was started with: the definition as it was read, and as text; inputs, path and time. For programs: as
        stored, so with its secrets.

        Where no definition is stored, it is put together from the recorded steps, with a `warning` that says so (R18).
        Where it can no longer be read, `cascade` is None, and `error` says why; the text is there all the same (R20).

        Raises:
            SessionNotFound: no such session, or nothing is known of it.
        """
        return stored_cascade(self._runtime, self.id)

    def diff(
        self, other: Session | str, *, only: Sequence[str] | str | None = None, redact: bool = True
    ) -> dict[str, Any]:
        """How it and another session differ; see `Cascades.diff`."""
        beside = other if isinstance(other, Session) else Session(self._runtime, look_up_id(self._runtime.store, other))
        return compare_sessions(self._runtime, self, beside, only=only, redact=redact)

    # -- waiting
    def ready(self) -> bool:
        """Whether it has ended."""
        return self.status in FINAL_SESSION

    def wait(self, timeout: float | None = None) -> SessionStatus:
        """Wait until it has ended or is suspended; one that waits for its turn in a thread has yet to begin.

        Args:
            timeout: seconds; None = as long as it takes. The session goes on if it is not done by then.

        Raises:
            SessionTimeout: it was not done in time.
            UsageError: `timeout` is no number of seconds.
        """
        timeout = check_seconds(timeout, "timeout")
        deadline = None if timeout is None else time.monotonic() + timeout
        look = _FIRST_LOOK
        while True:
            head = self._head()
            status = SessionStatus(head["status"])
            queued = waits_its_turn(status, head["status_reason"], head["started_at"])
            if status is not SessionStatus.ACTIVE and not queued:
                return status
            if deadline is not None and time.monotonic() >= deadline:
                raise SessionTimeout(
                    f"session {self.id} is not done after {timeout:g} s; it goes on",
                    hint=f"Watch it with: cascade watch {self.id}",
                )
            time.sleep(look)
            look = min(look * 1.5, _LONGEST_LOOK)

    def result(self, timeout: float | None = None) -> Any:
        """Wait for its end and return its output.

        Args:
            timeout: seconds; None = as long as it takes.

        Raises:
            SessionFailed: it failed, was cancelled or expired; says which step and why.
            NotResumable: it is suspended and somebody has to act; says why.
            SessionTimeout: it was not done in time; it goes on.
        """
        status = self.wait(timeout)
        if status is SessionStatus.COMPLETED:
            return self.output
        raise self._why(status)

    # -- Celery's habits
    def get(self, timeout: float | None = None, propagate: bool = True, **_: Any) -> Any:
        """As `AsyncResult.get`: wait for the end and return the output.

        Args:
            timeout: seconds; None = as long as it takes.
            propagate: False = return the error of a session that failed instead of raising it.
            _: whatever else `AsyncResult.get` takes (`interval`, `no_ack`, ...) has no meaning here.
        """
        try:
            return self.result(timeout)
        except SessionFailed as error:
            if propagate:
                raise
            return error

    @property
    def task_id(self) -> str:
        """The session's id."""
        return self.id

    @property
    def state(self) -> str:
        """Celery's word for where it stands: PENDING, STARTED, SUCCESS, FAILURE or REVOKED."""
        head = self._head()
        if head["status"] == SessionStatus.ACTIVE:
            return _STARTED if head["current_step"] else _PENDING
        return _CELERYS[head["status"]]

    def successful(self) -> bool:
        """Whether it has completed."""
        return self.status is SessionStatus.COMPLETED

    def failed(self) -> bool:
        """Whether it has failed."""
        return self.status is SessionStatus.FAILED

    def revoke(self, *_: Any, **__: Any) -> None:
        """As `cancel`: nothing new is queued, a step that runs still ends. Never a revoke by task id."""
        self.cancel("revoked")

    def _why(self, status: SessionStatus) -> Exception:
        row = self._row()
        if status is SessionStatus.SUSPENDED:
            found = [step["step"] for step in waiting(self._runtime.store.steps(self.id))]
            if found:
                return NotResumable(
                    f"session {self.id} is suspended ({row['status_reason']}): waiting for an answer: {listed(found)}",
                    hint="\n".join([f"Look: cascade show {self.id}", *answers(self.id, found)]),
                )
            return NotResumable(
                f"session {self.id} is suspended ({row['status_reason']})",
                hint=f"Look: cascade show {self.id}\nLet it go on: cascade resume {self.id}",
            )
        where, what = self._told(row)
        hint = f"Look: cascade show {self.id}"
        if status is SessionStatus.FAILED:
            hint += f"\n{again(self.id, self._error_of(row))}"
        return SessionFailed(f"session {self.id} {status.value}{where}{what}", hint=hint)

    @staticmethod
    def _error_of(row: Row) -> Any:
        try:
            return view.plain(row["error"], "its error")
        except StoreError:
            return None

    def _told(self, row: Row) -> tuple[str, str]:
        """Which step, and what happened or who said why."""
        hide = hiding_of(self._runtime, self.id).text
        if row["status"] == SessionStatus.CANCELLED:
            return "", hide(f": {row['status_reason']}") if row["status_reason"] else ""
        try:
            error = view.plain(row["error"], "its error") or {}
        except StoreError as unreadable:
            return "", f": {unreadable.message}"
        where = f": step {error['step']!r}" if error.get("step") else ""
        said = f": {error.get('type')}: {error.get('message')}" if error else ""
        return where, hide(said)

    # -- acting
    def cancel(self, reason: str | None = None, *, actor: str | None = None) -> SessionStatus:
        """Ask it to end: nothing new is queued, a step that runs still ends and is checkpointed.

        Raises:
            SessionConflict: it has ended already.
        """
        return self._halt(Halt.CANCELLED, reason, Action(action="cancel", actor=actor, reason=reason))

    def suspend(self, *, actor: str | None = None, reason: str | None = None) -> SessionStatus:
        """Ask it to stop after the steps that run; `resume()` goes on from there.

        Raises:
            SessionConflict: it has ended or is suspended already.
        """
        action = Action(action="suspend", actor=actor, reason=reason)
        return self._halt(Halt.SUSPENDED, SuspendReason.OPERATOR.value, action)

    def _halt(self, halt: Halt, reason: str | None, action: Action) -> SessionStatus:
        return halt_one(self._runtime, self.id, halt, reason, action)

    def resume(
        self,
        *,
        done: Any = NOTHING,
        again: bool = False,
        skip: bool = False,
        step: str | None = None,
        actor: str | None = None,
        reason: str | None = None,
    ) -> Session:
        """Go on from the last checkpoint: a failed step gets a fresh budget of attempts.

        A step that lost its worker and whose `on_crash` is `ask`, or that has killed too many, waits for an answer. It
        is recorded in `session_actions`. With the last one the session goes on.

        Args:
            done: it has done its work: this is its output.
            again: it runs again.
            skip: it is left out: it ends as `skipped`.
            step: which one the answer is about; None = the only one that waits.
            actor, reason: who and why; kept with the session.

        Raises:
            NotResumable: it has ended for good, its time has passed, or a step is in doubt and there is no answer.
            SessionConflict: the step does not wait for an answer, or somebody else has given one.
            NotSerializable, PayloadTooLarge: `done` cannot be stored.
        """
        answer = answer_from(done=done, again=again, skip=skip, step=step)
        resume_one(self._runtime, self.id, Action(action="resume", actor=actor, reason=reason), answer)
        return self

    def fork(
        self,
        *,
        at: str | None = None,
        from_failure: bool = False,
        inputs: Mapping[str, Any] | None = None,
        context: Mapping[str, Any] | None = None,
        definition: Target | None = None,
        conversation: bool = True,
        session_id: str | None = None,
        name: str | None = None,
        tags: Sequence[str] | None = None,
        thread_id: str | None = None,
        resource_id: str | None = None,
        actor: str | None = None,
        reason: str | None = None,
    ) -> Session:
        """A new session that begins with this one's finished steps and goes its own way; this one stays as it is.

        Results of kept steps are taken over, whatever their inputs were; `plan_fork` shows which. Of the context comes
        along what they have set, and what was set from outside up to there; of the conversation likewise.

        Args:
            at: this step runs again, and all that depends on it. None = all that had not ended well runs.
            from_failure: as `at` with the steps that failed.
            inputs: these replace inputs of the same names, the others stay.
            context: these replace variables of the same names.
            definition: another one: a file, a mapping, a registered name; `"current"` = whatever the file of this
                session says now. None = the stored one.
            conversation: False = nothing of what was said comes along.
            session_id: of the new one; None = a random one.
            name, tags: of the new one; None = as this one's.
            thread_id, resource_id: your own handle on the new one's conversation, which is another one from here on.
                None = no thread, and this one's resource.
            actor, reason: who and why; kept with the new session.

        Raises:
            SessionConflict: the step has not ended, nothing would be left to run, the new id is taken, or the thread
                is in a session that runs.
            UsageError: there is no such step.
            DefinitionError, InputError, TemplateError, PayloadTooLarge, NotSerializable: nothing was written.
        """
        change = Change(
            at=at,
            from_failure=from_failure,
            inputs=inputs,
            context=context,
            definition=definition,
            conversation=conversation,
        )
        options = ForkOptions(
            session_id=session_id,
            name=name,
            tags=tags,
            thread_id=thread_id,
            resource_id=resource_id,
            actor=actor,
            reason=reason,
        )
        return Session(self._runtime, fork(self._runtime, self.id, change, options))

    def plan_fork(
        self,
        *,
        at: str | None = None,
        from_failure: bool = False,
        inputs: Mapping[str, Any] | None = None,
        context: Mapping[str, Any] | None = None,
        definition: Target | None = None,
    ) -> ForkPlan:
        """What `fork` with the same arguments would keep and run; raises its errors, and writes nothing."""
        change = Change(at=at, from_failure=from_failure, inputs=inputs, context=context, definition=definition)
        return plan_fork(self._runtime, self.id, change)

    def rerun(
        self,
        *,
        session_id: str | None = None,
        name: str | None = None,
        tags: Sequence[str] | None = None,
        thread_id: str | None = None,
        resource_id: str | None = None,
        actor: str | None = None,
        reason: str | None = None,
    ) -> Session:
        """A new session with the same definition and inputs, byte for byte, from the first step on (R22).

        Its file may have changed or be gone: what is stored counts. The context begins empty, and nothing that was
        said comes along.

        Args:
            session_id: of the new one; None = a random one.
            name, tags, thread_id, resource_id, actor, reason: as for `fork`.

        Raises:
            SessionConflict: the new id is taken, or the thread is in a session that runs.
            DefinitionError: the app does not know a task of it any more.
        """
        options = ForkOptions(
            session_id=session_id,
            name=name,
            tags=tags,
            thread_id=thread_id,
            resource_id=resource_id,
            actor=actor,
            reason=reason,
        )
        return Session(self._runtime, rerun(self._runtime, self.id, options))

    def keep(self, keep: bool = True, *, actor: str | None = None, reason: str | None = None) -> bool:
        """Pin it, so that no prune deletes it or its tree, whatever their age; `keep(False)` undoes it.

        Returns whether that changed anything. Both are recorded in `session_actions`.

        Raises:
            SessionNotFound: no such session.
        """
        action = Action(action="keep" if keep else "unkeep", actor=actor, reason=reason)
        check_action(action)
        return self._runtime.store.pin(self.id, bool(keep), action)

    def delete(self, *, actor: str | None = None) -> list[str]:
        """Delete it with its descendants and all that belongs to them; returns the ids that are gone.

        Its thread mapping is freed. What was deleted cannot be brought back.

        Raises:
            SessionNotFound: no such session.
            SessionConflict: it or a descendant is active (cancel it first) or kept, or it belongs to a tree whose
                root is another session. A suspended session may be deleted: nothing of it runs.
        """
        return delete(self._runtime, self.id, actor=actor)
