"""How a watched session ends on the command line: its output on stdout, words on stderr, an exit code."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

import click

from celery_cascade.cli.answering import doubts
from celery_cascade.cli.caller import Caller
from celery_cascade.cli.exits import DONE, FAILED, INTERRUPTED, WAITING
from celery_cascade.cli.problems import as_called
from celery_cascade.cli.words import complain, is_json, out, out_json, out_value, painted, printable, say, why
from celery_cascade.sessions.hiding import by_keys
from celery_cascade.sessions.plain import PlainResult, PlainRun
from celery_cascade.sessions.session import Session, again
from celery_cascade.states import SessionStatus, SuspendReason

_BY_ITSELF = {SuspendReason.WORKER_LOST, SuspendReason.TIMER, SuspendReason.CHILDREN}
_WHY = {
    SuspendReason.OPERATOR: "somebody asked for it",
    SuspendReason.IN_DOUBT: "a step lost its worker and may or may not have done its work",
    SuspendReason.POISONED: "a step has killed its worker too often",
    SuspendReason.WORKER_LOST: "no living worker knows the task of a step",
    SuspendReason.APPROVAL: "a person has to answer",
    SuspendReason.SIGNAL: "an outside event has to arrive",
    SuspendReason.CHILDREN: "sub-cascades have to end",
    SuspendReason.TIMER: "a moment has to come",
}


def conclude(session: Session, status: SessionStatus) -> NoReturn:
    """Print what the session gave, say how it ended, and exit."""
    ctx = click.get_current_context()
    whole = session.to_dict()
    if is_json(ctx):
        out_json({"session": whole})
    elif status is SessionStatus.COMPLETED:
        out_value(whole["output"])
    tell = say if status in (SessionStatus.COMPLETED, SessionStatus.SUSPENDED) else complain
    tell(f"Session {session.id} is {painted(status.value)}.")
    match status:
        case SessionStatus.COMPLETED:
            raise click.exceptions.Exit(DONE)
        case SessionStatus.SUSPENDED:
            _waiting(session, whole["waits_for"])
        case SessionStatus.FAILED:
            complain(f"Error: {why(whole['error'] or {})}")
            _next(f"Look: cascade show {session.id}", *again(session.id, whole["error"]).splitlines(), tell=complain)
        case _:
            if whole["reason"]:
                complain(f"Reason: {printable(whole['reason'])}")
            _next(f"Look: cascade show {session.id}", tell=complain)
    raise click.exceptions.Exit(WAITING if status is SessionStatus.SUSPENDED else FAILED)


def say_not_repeated(done: str) -> None:
    """After a resume: what is done and stays done (R161); the words of `not_repeated`, asked for before it."""
    if done:
        say(f"Not repeated: {done}.")


def conclude_plain(run: PlainRun) -> NoReturn:
    """The store is missing and need not be there: an output if it ran here, else there is nothing to follow."""
    as_json = is_json(click.get_current_context())
    if isinstance(run, PlainResult):
        output = by_keys(Caller.here().runtime).data(run.result())
        out_json({"durable": False, "output": output}) if as_json else out_value(output)
    else:
        say(f"Sent as one plain task, of which nothing is kept: {run.id}")
        out_json({"durable": False, "task_id": run.id}) if as_json else out(run.id)
    raise click.exceptions.Exit(DONE)


def detached(session: Session) -> NoReturn:
    """Ctrl+C of a watched run: the run goes on (D8)."""
    say()
    say(f"No longer watching; session {session.id} goes on.")
    _next(f"Watch it with: cascade watch {session.id}", f"End it with: cascade cancel {session.id}")
    raise click.exceptions.Exit(INTERRUPTED)


def _waiting(session: Session, waits_for: Sequence[Mapping[str, Any]]) -> None:
    try:
        reason = SuspendReason(session.reason or "")
    except ValueError:
        reason = SuspendReason.OPERATOR
    say(f"It waits ({reason.value}): {_WHY[reason]}.")
    if waits_for:
        _next(*doubts(session.id, waits_for), f"Look: cascade show {session.id}")
    elif reason in _BY_ITSELF:
        _next("It goes on by itself then.", f"Watch it with: cascade watch {session.id}")
    else:
        _next(f"Look: cascade show {session.id}", f"Go on from the last checkpoint: cascade resume {session.id}")


def _next(*lines: str, tell: Callable[[str], None] = say) -> None:
    for line in lines:
        tell(as_called(line))
