"""`cascade suspend`: stop sessions after the steps that run."""

from __future__ import annotations

import click

from celery_cascade.cli.caller import Caller
from celery_cascade.cli.filters import filter_options
from celery_cascade.cli.many import act_on_many, ids_argument, many_options, meant
from celery_cascade.cli.options import ACTED, Verb, actor, json_option
from celery_cascade.cli.problems import as_called
from celery_cascade.cli.words import out_session, say
from celery_cascade.persistence.finding import SessionFilter
from celery_cascade.sessions.session import Session
from celery_cascade.states import SessionStatus

_EXAMPLE = (
    'celery -A proj cascade suspend 3f2a91 --reason "the bank is down"',
    "celery -A proj cascade suspend --cascade order --yes",
)


@click.command(cls=Verb, example=_EXAMPLE, exits=ACTED)
@ids_argument
@filter_options
@click.option("--reason", help="Why; kept with the session and shown.")
@many_options
@json_option
def suspend(
    sessions: tuple[str, ...], wanted: SessionFilter, reason: str | None, dry_run: bool, yes: bool, as_json: bool
) -> None:
    """Stop sessions: a step that runs still ends and is checkpointed, nothing new is started until `resume`.

    Name them by their IDs, or by filters. When several are meant, it asks first. What cannot be suspended does not
    stop the others.

    Only an active session can be suspended.
    """
    which = meant(sessions, wanted)
    if not isinstance(which, list) or len(which) > 1 or dry_run:
        act_on_many("suspend", which, reason=reason, yes=yes, dry_run=dry_run)
    found = Session(Caller.here().runtime, which[0])
    status = found.suspend(reason=reason, actor=actor())
    if status is SessionStatus.SUSPENDED:
        say(f"Session {found.id} is suspended.")
    else:
        say(f"Session {found.id} is being suspended: the step that runs ends first.")
    say(as_called(f"Let it go on with: cascade resume {found.id}"))
    out_session(found)
