"""`cascade cancel`: end sessions."""

from __future__ import annotations

import click

from celery_cascade.cli.caller import Caller
from celery_cascade.cli.filters import filter_options
from celery_cascade.cli.many import act_on_many, ids_argument, many_options, meant
from celery_cascade.cli.options import ACTED, Verb, actor, json_option
from celery_cascade.cli.words import out_session, say
from celery_cascade.persistence.finding import SessionFilter
from celery_cascade.sessions.session import Session
from celery_cascade.states import SessionStatus

_EXAMPLE = (
    'celery -A proj cascade cancel 3f2a91 --reason "wrong order"',
    "celery -A proj cascade cancel --cascade order --status suspended --dry-run",
    'celery -A proj cascade cancel --cascade order --yes --reason "recalled"',
)


@click.command(cls=Verb, example=_EXAMPLE, exits=ACTED)
@ids_argument
@filter_options
@click.option("--reason", help="Why; kept with the session and shown.")
@many_options
@json_option
def cancel(
    sessions: tuple[str, ...], wanted: SessionFilter, reason: str | None, dry_run: bool, yes: bool, as_json: bool
) -> None:
    """End sessions: nothing new is started, a step that runs still ends and is checkpointed.

    Name them by their IDs, or by filters; a filter without --status means what is active or suspended. When several
    are meant, it asks first. What cannot be cancelled does not stop the others.

    A cancelled session cannot be resumed. One that has ended already cannot be cancelled.
    """
    which = meant(sessions, wanted)
    if not isinstance(which, list) or len(which) > 1 or dry_run:
        act_on_many("cancel", which, reason=reason, yes=yes, dry_run=dry_run)
    found = Session(Caller.here().runtime, which[0])
    status = found.cancel(reason, actor=actor())
    if status is SessionStatus.CANCELLED:
        say(f"Session {found.id} is cancelled.")
    else:
        say(f"Session {found.id} is being cancelled: the step that runs ends first.")
    out_session(found)
