"""`cascade rm`: delete sessions."""

from __future__ import annotations

from collections.abc import Sequence

import click

from celery_cascade.cli.caller import Caller
from celery_cascade.cli.filters import filter_options
from celery_cascade.cli.many import act_on_many, ids_argument, many_options, meant
from celery_cascade.cli.options import ACTED, Verb, actor, json_option
from celery_cascade.cli.words import counted, is_json, out, out_json, say
from celery_cascade.errors import SessionNotFound, UsageError
from celery_cascade.persistence.finding import SessionFilter
from celery_cascade.sessions.deleting import delete, whole_tree
from celery_cascade.tasks.runtime import Runtime

_EXAMPLE = (
    "celery -A proj cascade rm 3f2a91",
    "celery -A proj cascade rm --yes 3f2a91 @last-failed",
    "celery -A proj cascade rm --cascade order --status failed --dry-run",
)


@click.command(cls=Verb, example=_EXAMPLE, exits=ACTED)
@ids_argument
@filter_options
@many_options
@json_option
def rm(sessions: tuple[str, ...], wanted: SessionFilter, yes: bool, dry_run: bool, as_json: bool) -> None:
    """Delete sessions, each with its descendants and all that is stored of them. There is no way back.

    An active session is refused: cancel it first. So is one that `keep` pins, and a descendant without its root. If
    one of those that are named by ID cannot go, none goes. When several go, it asks first.

    With filters instead of IDs, those that can go do; without --status, what is completed, cancelled or expired.
    """
    which = meant(sessions, wanted)
    if not isinstance(which, list):
        act_on_many("delete", which, yes=yes, dry_run=dry_run)
    runtime = Caller.here().runtime
    trees = _trees(runtime, which)
    ids = [one for tree in trees.values() for one in tree]
    if not dry_run:
        if len(ids) > 1 and not yes:
            _confirm(len(ids))
        ids = [one for session in trees for one in _delete(runtime, session)]
    if is_json(click.get_current_context()):
        out_json({"deleted": len(ids), "session_ids": ids, "dry_run": dry_run})
    else:
        for one in ids:
            out(one)
    say(f"{'Would delete' if dry_run else 'Deleted'} {counted(len(ids), 'session')}.")


def _trees(runtime: Runtime, asked: Sequence[str]) -> dict[str, list[str]]:
    """Session -> all that goes with it; one that goes with another given one is not named again."""
    roots = {one: runtime.store.tree(one)[0].root for one in asked}
    return {one: whole_tree(runtime, one) for one in asked if roots[one] == one or roots[one] not in asked}


def _delete(runtime: Runtime, session: str) -> list[str]:
    try:
        return delete(runtime, session, actor=actor())
    except SessionNotFound:  # somebody else was quicker, and it is as asked
        return []


def _confirm(count: int) -> None:
    try:
        sure = click.confirm(f"Delete {counted(count, 'session')}?", err=True)
    except click.Abort:
        raise UsageError("nobody is there to confirm this", hint="Say it on the command line: --yes") from None
    if not sure:
        raise UsageError("nothing was deleted", hint="See which they are with --dry-run")
