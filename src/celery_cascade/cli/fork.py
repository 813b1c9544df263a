"""`cascade fork`: go on from the middle of a session in another one."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import click

from celery_cascade.cli import completing
from celery_cascade.cli.caller import Caller
from celery_cascade.cli.file_set import source_named
from celery_cascade.cli.forked import say_forked
from celery_cascade.cli.given import inputs_of, pairs_of
from celery_cascade.cli.here import as_its_worker, check_here, is_here, run_here
from celery_cascade.cli.ids import session_id
from celery_cascade.cli.options import BEGUN, Verb, actor, id_argument, json_option, local_option, timeout_option
from celery_cascade.cli.watching import leave, watch_to_the_end
from celery_cascade.cli.words import counted, is_json, out, out_json, printable, say
from celery_cascade.definition.cascade import Cascade, Source
from celery_cascade.definition.reader import read_cascade
from celery_cascade.errors import UsageError
from celery_cascade.sessions.branching import current_definition
from celery_cascade.sessions.forking import ForkPlan
from celery_cascade.sessions.hiding import Hiding, hiding_of
from celery_cascade.sessions.ids import id_or_new
from celery_cascade.sessions.session import Session

_EXAMPLE = (
    "celery -A proj cascade fork 3f2a91 --at charge -i amount=90 --dry-run",
    "celery -A proj cascade fork @last-failed --from-failure --use-current-definition",
)


@click.command(cls=Verb, example=_EXAMPLE, exits=BEGUN)
@id_argument
@click.option("--at", metavar="STEP", help="This step runs again, and all that depends on it.")
@click.option("--from-failure", is_flag=True, help="What failed runs again, and all that depends on it.")
@click.option("-i", "--input", "pairs", multiple=True, metavar="KEY=VALUE", help="In place of its input of that name.")
@click.option("--inputs", "inputs_file", metavar="FILE", help="Such inputs as a JSON object; - reads stdin.")
@click.option("--context", "context_pairs", multiple=True, metavar="KEY=VALUE", help="In place of that variable.")
@click.option(
    "--definition", metavar="FILE", shell_complete=completing.cascades, help="Run this definition, not the stored one."
)
@click.option("--use-current-definition", "current", is_flag=True, help="Run what its own file says now.")
@click.option("--session", "new_id", metavar="ID", help="The id of the new session; else a random one.")
@click.option("--name", help="A name to show in lists; else the same.")
@click.option("--tag", "tags", multiple=True, metavar="WORD", help="A word of yours; else the same ones.")
@click.option("--thread", metavar="THREAD", help="Your handle on the new session's conversation.")
@click.option("--resource", metavar="RESOURCE", help="Whose thread it is; else the same as of the session.")
@click.option("--no-conversation", is_flag=True, help="What was said does not come along.")
@click.option("--reason", help="Why; kept with the new session.")
@click.option("--dry-run", is_flag=True, help="Only say what would be kept and what would run.")
@click.option("--watch/--detach", default=True, help="Follow it and print its output (default), or return at once.")
@local_option
@timeout_option
@json_option
def fork(
    session: str,
    at: str | None,
    from_failure: bool,
    pairs: tuple[str, ...],
    inputs_file: str | None,
    context_pairs: tuple[str, ...],
    definition: str | None,
    current: bool,
    new_id: str | None,
    name: str | None,
    tags: tuple[str, ...],
    thread: str | None,
    resource: str | None,
    no_conversation: bool,
    reason: str | None,
    dry_run: bool,
    watch: bool,
    local: bool,
    timeout: timedelta | None,
    as_json: bool,
) -> None:
    """Go on from the middle of a session in a new one, with other inputs, variables or another definition.

    The new session takes over the results of the steps before --at; that step runs again, and whatever depends on it.
    Without --at and --from-failure it takes over all that has ended well, and runs the rest. The session itself stays
    as it is: it may still run, and the two never see each other again.
    """
    check_here(local, watch, timeout)
    if current and definition is not None:
        raise UsageError("--definition and --use-current-definition are different definitions")
    caller = Caller.here()
    origin = Session(caller.runtime, session_id(caller.runtime.store, session))
    given: Source | None = None if definition is None else source_named(caller.cascades, definition)
    if current:
        given = current_definition(caller.runtime, origin.id)
    change: dict[str, Any] = {
        "at": at,
        "from_failure": from_failure,
        "inputs": inputs_of(_cascade(origin, given), pairs, inputs_file) if pairs or inputs_file else None,
        "context": pairs_of(context_pairs, "--context") or None,
        "definition": given,
    }
    if dry_run:
        _planned(origin.plan_fork(**change), hiding_of(caller.runtime, origin.id))
        return
    new_id = id_or_new(new_id)
    about: dict[str, Any] = {
        "conversation": not no_conversation,
        "session_id": new_id,
        "name": name,
        "tags": list(tags) or None,
        "thread_id": thread,
        "resource_id": resource,
        "actor": actor(),
        "reason": reason,
    }
    if is_here(caller.runtime, local):
        with as_its_worker(caller.runtime, new_id):
            say_forked(caller.runtime, origin, origin.fork(**change, **about))
            run_here(caller.runtime, new_id, since=1)
    made = origin.fork(**change, **about)
    say_forked(caller.runtime, origin, made)
    if watch:
        watch_to_the_end(caller, made, timeout, since=1)
    else:
        leave(caller, made)


def _cascade(origin: Session, given: Source | None) -> Cascade:
    """What says which inputs are text."""
    return read_cascade(origin.source if given is None else given)


def _planned(plan: ForkPlan, hiding: Hiding) -> None:
    if is_json(click.get_current_context()):
        out_json({"fork": hiding.data(plan.to_dict())})
        return
    changed = set(plan.changed)
    lines = [(step, "kept" + (", although the definition has changed" if step in changed else ""))
             for step in plan.kept]  # fmt: skip
    doubt = "runs, although it may have done its work already (in_doubt)"
    lines += [(step, doubt if step in plan.in_doubt else "runs") for step in plan.runs] + [
        (step, "skipped") for step in plan.skipped
    ]
    width = max(len(step) for step, _ in lines)
    for step, what in lines:
        out(f"{printable(step):<{width}}  {what}")
    say(f"Would keep {counted(len(plan.kept), 'step')} and run {counted(len(plan.runs), 'step')}; nothing was written.")
