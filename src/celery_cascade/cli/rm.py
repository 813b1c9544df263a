"""`cascade rm`: delete sessions by their ids."""

from __future__ import annotations

from collections.abc import Sequence

import click

from celery_cascade.cli import completing
from celery_cascade.cli.caller import Caller
from celery_cascade.cli.ids import session_id
from celery_cascade.cli.options import Verb, actor, json_option
from celery_cascade.cli.words import counted, is_json, out, out_json, say
from celery_cascade.errors import SessionNotFound, UsageError
from celery_cascade.sessions.deleting import delete, whole_tree
from celery_cascade.tasks.runtime import Runtime


@click.command(
    cls=Verb, example=("celery -A proj cascade rm 3f2a91", "celery -A proj cascade rm --yes 3f2a91 @last-failed")
)
@click.argument("sessions", metavar="ID...", nargs=-1, required=True, shell_complete=completing.sessions)
@click.option("-y", "--yes", is_flag=True, help="Do not ask, although several sessions go.")
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
@json_option
def rm(sessions: tuple[str, ...], yes: bool, dry_run: bool, as_json: bool) -> None:
    """Delete sessions, each with its descendants and all that is stored of them. There is no way back.

    An active session is a conflict (exit 4): cancel it first. So is one that `keep` pins, and a descendant without
    its root. If one of them cannot go, none goes. When several go, it asks first.
    """
    runtime = Caller.here().runtime
    trees = _trees(runtime, sessions)
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


def _trees(runtime: Runtime, given: Sequence[str]) -> dict[str, list[str]]:
    """Session -> all that goes with it; one that goes with another given one is not named again."""
    asked = list(dict.fromkeys(session_id(runtime.store, text) for text in given))
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
        raise UsageError("nothing was deleted")
