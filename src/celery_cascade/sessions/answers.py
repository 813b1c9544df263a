"""What an operator says of a step that is in doubt or poisoned: it is done, it runs again, or it is left out."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from celery_cascade.errors import SessionConflict, UsageError
from celery_cascade.persistence import codec, doubts, rows
from celery_cascade.persistence.head import Action
from celery_cascade.persistence.rows import Checkpoint, StepKey
from celery_cascade.sessions.view import waits
from celery_cascade.tasks.calls import encoded
from celery_cascade.tasks.ending import checkpoint_of
from celery_cascade.tasks.runtime import Runtime
from celery_cascade.words import listed, shown, suggestion

#: No answer, where None is one.
NOTHING: Final = object()
_WAYS = "Say one of: done=VALUE, again=True, skip=True (on the command line --done JSON, --again, --skip)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One answer.

    Args:
        way: `done` = the step has done its work, and gave `value`; `again` = it runs again; `skip` = left out.
        step: which; None = the only one that waits.
    """

    way: Literal["done", "again", "skip"]
    value: Any = None
    step: str | None = None


def answer_from(*, done: Any, again: bool, skip: bool, step: str | None) -> Answer | None:
    """The answer that a call gives; None if it gives none. Raises UsageError: it makes no sense."""
    given = [way for way, said in (("done", done is not NOTHING), ("again", again), ("skip", skip)) if said]
    if len(given) > 1:
        raise UsageError(f"{listed(given)} are different answers", hint=_WAYS)
    if not given:
        if step is not None:
            raise UsageError(f"step {shown(step)} is named, but not what became of it", hint=_WAYS)
        return None
    way: Any = given[0]
    return Answer(way=way, value=done if way == "done" else None, step=step)


def waiting(found: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Those of a session's steps that wait for an answer."""
    return [step for step in found if waits(step)]


def write_answer(
    runtime: Runtime, session_id: str, answer: Answer, action: Action, *, resend_after: float | None
) -> tuple[rows.Answer, rows.Answered]:
    """Carry out an answer in one transaction; `action` is kept with it. Returns what was written, and its effect.

    Raises:
        SessionConflict: the step does not wait for an answer (any more), or which one is meant is not clear.
        NotSerializable, PayloadTooLarge: the value cannot be stored. Nothing was changed.
    """
    row = _chosen(session_id, waiting(runtime.store.steps(session_id)), answer)
    key = StepKey(session_id, row["step"], row["item"])
    nonce = uuid.uuid4().hex
    detail = {"step": key.step, "answer": answer.way, "attempt": row["attempt"] - 1}
    done = None
    if answer.way != "again":
        done = _end_of(runtime, key, nonce, answer)
    if answer.way == "done":
        detail["value"] = answer.value
    given = rows.Answer(key=key, attempt=row["attempt"], nonce=nonce, done=done)
    kept = replace(action, detail=codec.encode(detail, what="the answer"))
    return given, runtime.store.answer(given, kept, worker=runtime.worker_id, resend_after=resend_after)


def _end_of(runtime: Runtime, key: StepKey, nonce: str, answer: Answer) -> Checkpoint:
    if answer.way == "skip":
        return checkpoint_of(runtime, key, nonce, None, output=None, skipped="operator")
    text = encoded(runtime, answer.value, f"output of step {key.step!r}")
    return checkpoint_of(runtime, key, nonce, text, output=codec.decode(text), skipped=None)


def _chosen(session_id: str, found: Sequence[Mapping[str, Any]], answer: Answer) -> Mapping[str, Any]:
    names = [row["step"] for row in found]
    look = f"Look: cascade show {session_id}"
    if answer.step is not None:
        for row in found:
            if row["step"] == answer.step:
                return row
        hint = suggestion(answer.step, names, else_list="waiting are") if names else ""
        raise SessionConflict(
            f"session {session_id}: step {shown(answer.step)} does not wait for an answer{hint}", hint=look
        )
    if not found:
        raise SessionConflict(f"session {session_id}: no step of it waits for an answer", hint=look)
    if len(found) > 1:
        raise UsageError(
            f"session {session_id}: {len(found)} steps wait for an answer: {listed(names)}; say which one is meant",
            hint="\n".join(doubts.answers(session_id, names)),
        )
    return found[0]
