"""`cascade definition`: what a session runs, byte for byte."""

from __future__ import annotations

import click

from celery_cascade.cli import completing
from celery_cascade.cli.caller import Caller
from celery_cascade.cli.ids import session_id
from celery_cascade.cli.options import Verb, json_option
from celery_cascade.cli.words import is_json, out, out_json, printable, say
from celery_cascade.definition.inline import yaml_of
from celery_cascade.definition.source import DEFAULT_MAX_BYTES
from celery_cascade.errors import DefinitionNotFound, UsageError
from celery_cascade.sessions.hiding import hiding_of
from celery_cascade.sessions.session import Session
from celery_cascade.sessions.versions import definition_beginning

_EXAMPLE = (
    "celery -A proj cascade definition @last --raw > order.yaml.then",
    "celery -A proj cascade definition --sha 5c0ffe",
)


@click.command(cls=Verb, example=_EXAMPLE)
@click.argument("session", metavar="[ID]", required=False, shell_complete=completing.sessions)
@click.option("--sha", metavar="SHA256", help="The stored definition whose sha256 begins so, instead of a session's.")
@click.option("--raw", is_flag=True, help="The exact bytes and nothing else.")
@json_option
def definition(session: str | None, sha: str | None, raw: bool, as_json: bool) -> None:
    """Print the definition that a session runs, as it was when it started.

    The file may have changed since; the session keeps to this. With --raw its bytes come out as they were read:
    comments, line ends, secrets and all. `versions` lists those of a cascade.
    """
    if (session is None) == (sha is None):
        raise UsageError("give the ID of a session, or --sha", hint="See how it is called: cascade definition --help")
    runtime = Caller.here().runtime
    found = None if session is None else Session(runtime, session_id(runtime.store, session))
    source = found.source if found is not None else definition_beginning(runtime, sha or "")
    if found is not None and not source.body:
        _reconstructed(found, raw)
        return
    if raw:
        click.echo(source.body, nl=False)  # bytes go out as they are
        return
    hiding = hiding_of(runtime, *(() if found is None else (found.id,)), sources=(source,))
    text = hiding.values(source.body.decode("utf-8", "replace"))
    if is_json(click.get_current_context()):
        told = {"sha256": source.digest, "format": source.format, "config_path": source.path, "definition": text}
        out_json({"session_id": None if found is None else found.id, **told})
        return
    where = "" if found is None else f", from {source.path or 'a definition in Python'}"
    say(f"sha256 {source.digest}, {source.format}{where}")
    out(printable(text, lines=True).removesuffix("\n"), theirs=True)


def _reconstructed(session: Session, raw: bool) -> None:
    """What is known of a definition that is not stored (R18)."""
    known = session.stored_cascade()
    if raw:
        raise DefinitionNotFound(
            f"the definition of session {session.id} is not stored",
            hint=f"See the steps that are known of it: cascade definition {session.id}",
        )
    if is_json(click.get_current_context()):
        out_json({"session_id": session.id, **known})
        return
    say(f"Warning: {known['warning']}")
    out(printable(yaml_of(known["cascade"], DEFAULT_MAX_BYTES), lines=True).removesuffix("\n"))
