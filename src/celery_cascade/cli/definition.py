"""`cascade definition`: what a session runs, byte for byte."""

from __future__ import annotations

import click

from celery_cascade.cli.caller import Caller
from celery_cascade.cli.ids import session_id
from celery_cascade.cli.options import Verb, id_argument, json_option
from celery_cascade.cli.words import is_json, out, out_json, printable, say
from celery_cascade.definition.inline import yaml_of
from celery_cascade.definition.source import DEFAULT_MAX_BYTES
from celery_cascade.errors import DefinitionNotFound
from celery_cascade.sessions.session import Session


@click.command(cls=Verb, example=("celery -A proj cascade definition @last --raw > order.yaml.then",))
@id_argument
@click.option("--raw", is_flag=True, help="The exact bytes and nothing else.")
@json_option
def definition(session: str, raw: bool, as_json: bool) -> None:
    """Print the definition that a session runs, as it was when it started.

    The file may have changed since; the session keeps to this. With --raw its bytes come out as they were read:
    comments, line ends and all.
    """
    runtime = Caller.here().runtime
    found = Session(runtime, session_id(runtime.store, session))
    source = found.source
    if not source.body:
        _reconstructed(found, raw)
        return
    if raw:
        click.echo(source.body, nl=False)  # bytes go out as they are
        return
    text = source.body.decode("utf-8", "replace")
    if is_json(click.get_current_context()):
        told = {"sha256": source.digest, "format": source.format, "config_path": source.path, "definition": text}
        out_json({"session_id": found.id, **told})
        return
    say(f"sha256 {source.digest}, {source.format}, from {source.path or 'a definition in Python'}")
    out(printable(text, lines=True).removesuffix("\n"))


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
