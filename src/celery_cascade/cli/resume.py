"""`cascade resume`: set failed or suspended sessions going again."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import click

from celery_cascade.cli.answering import answer_of, doubts
from celery_cascade.cli.caller import Caller
from celery_cascade.cli.ending import say_not_repeated
from celery_cascade.cli.filters import filter_options
from celery_cascade.cli.follow import no_worker
from celery_cascade.cli.here import as_its_worker, check_here, is_here, run_here
from celery_cascade.cli.living import lack_of, workers
from celery_cascade.cli.many import act_on_many, ids_argument, many_options, meant, only_for_one
from celery_cascade.cli.options import ACTED, WATCHED, Verb, actor, json_option, local_option, timeout_option
from celery_cascade.cli.problems import as_called
from celery_cascade.cli.unattended import say_unattended
from celery_cascade.cli.watching import watch_to_the_end
from celery_cascade.cli.words import counted, out_session, say
from celery_cascade.persistence.finding import SessionFilter
from celery_cascade.persistence.head import Action
from celery_cascade.sessions.resuming import resume_one
from celery_cascade.sessions.session import Session
from celery_cascade.states import Halt
from celery_cascade.tasks.not_repeated import not_repeated

_EXAMPLE = (
    "celery -A proj cascade resume @last-failed --watch",
    'celery -A proj cascade resume 3f2a91 --done \'{"receipt": 7}\' --reason "seen at the bank"',
    "celery -A proj cascade resume 3f2a91 --step charge --again",
    'celery -A proj cascade resume --status failed --cascade order --yes --reason "the bank is back"',
)

_EXITS = {
    **WATCHED,
    **ACTED,
    0: "it goes on; with --watch: it has completed",
    5: "it has ended for good, or waits for an answer",
}


@click.command(cls=Verb, example=_EXAMPLE, exits=_EXITS)
@ids_argument
@filter_options
@click.option("--done", metavar="JSON", help="The step that waits has done its work, and gave this.")
@click.option("--again", is_flag=True, help="The step that waits runs again.")
@click.option("--skip", is_flag=True, help="Go on without the step that waits; it ends as skipped.")
@click.option("--reason", help="Why; kept with the session.")
@click.option("--watch/--detach", default=False, help="Follow it to its end, or return at once (default).")
@local_option
@timeout_option
@many_options
@json_option
def resume(
    sessions: tuple[str, ...],
    wanted: SessionFilter,
    done: str | None,
    again: bool,
    skip: bool,
    reason: str | None,
    watch: bool,
    local: bool,
    timeout: timedelta | None,
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Let failed or suspended sessions go on from their last checkpoints.

    Name them by their IDs, or by filters. When several are meant, it asks first. What cannot be resumed does not stop
    the others.

    Steps that are checkpointed never run again; a step that failed gets a fresh budget of attempts. The definition
    that the session started with is used, whatever its file says now. A session that is active goes on anyway.

    A step that lost its worker may have done its work or not. Where its `on_crash` is `ask`, its session is suspended
    (in_doubt) until --done, --again or --skip says what became of it; a resume without one of them exits 5. The same
    can be said of a step that killed its worker too often (poisoned); a resume without runs it again. The answer is
    kept with the session, with who gave it. Where several steps wait, --step says which one the answer is about.
    """
    step = wanted.step if sessions else None
    answer = answer_of(done, again, skip, step)
    check_here(local, True, timeout)
    which = meant(sessions, replace(wanted, step=None) if sessions else wanted)
    if not isinstance(which, list) or len(which) > 1 or dry_run:
        only_for_one(
            done=done is not None, again=again, skip=skip, step=step, watch=watch, local=local, timeout=timeout
        )
        act_on_many("resume", which, reason=reason, yes=yes, dry_run=dry_run, afterwards=say_unattended)
    caller = Caller.here()
    runtime = caller.runtime
    found = Session(runtime, which[0])
    since, finished = found.version, not_repeated(runtime, found.id)
    action = Action(action="resume", actor=actor(), reason=reason)
    if is_here(runtime, local):
        with as_its_worker(runtime, found.id):
            resume_one(runtime, found.id, action, answer)
            say(f"Session {found.id}")
            say_not_repeated(finished)
            run_here(runtime, found.id, since=since)
    to_be_suspended = runtime.store.head(found.id)["halt"] == Halt.SUSPENDED
    queued = resume_one(runtime, found.id, action, answer)
    if answer is not None and not queued:
        _said(found)
    elif queued:
        say(f"Session {found.id} goes on: {counted(queued, 'step')} queued.")
        say_not_repeated(finished)
    elif to_be_suspended:
        say(f"Session {found.id} goes on: the suspension that was asked for is taken back.")
    else:
        say(f"Session {found.id} is active already; there was nothing to resume.")
    if watch:
        watch_to_the_end(caller, found, timeout, since)
    out_session(found)
    lack = lack_of(runtime, runtime.facts(found.id).plan, workers(runtime))
    if queued and lack is not None:
        for line in no_worker(caller, found.id, lack):
            say(line)


def _said(session: Session) -> None:
    """After an answer that has queued nothing: the session has ended by it, or others still wait for theirs."""
    whole = session.to_dict()
    say(f"The answer is kept. Session {session.id} is {whole['status']}.")
    for line in doubts(session.id, whole["waits_for"]):
        say(as_called(line))
