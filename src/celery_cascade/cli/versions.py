"""`cascade versions`: which definitions a cascade had."""

from __future__ import annotations

from typing import Any

import click

from celery_cascade.cli.caller import Caller
from celery_cascade.cli.options import Verb, json_option
from celery_cascade.cli.tables import table
from celery_cascade.cli.words import is_json, local, out_json, printable, size

_HEADINGS = ("SHA256", "FORMAT", "SIZE", "SESSIONS", "FIRST SEEN", "LAST USED", "FILE")
_SHOWN = 12  # characters of a digest; enough for `definition --sha`


@click.command(cls=Verb, example=("celery -A proj cascade versions order",), exits={3: "no such cascade ran"})
@click.argument("cascade_id", metavar="CASCADE")
@json_option
def versions(cascade_id: str, as_json: bool) -> None:
    """List the distinct definitions of a cascade that sessions ran, the newest first.

    A session keeps to the text that it was started with, whatever becomes of the file; `definition --sha` prints any
    of them.
    """
    found = Caller.here().cascades.versions(cascade_id)
    if is_json(click.get_current_context()):
        out_json({"cascade_id": cascade_id, "versions": found})
        return
    table(_HEADINGS, [_cells(one) for one in found])


def _cells(one: dict[str, Any]) -> list[str]:
    return [
        one["sha256"][:_SHOWN],
        one["format"],
        size(one["bytes"]),
        f"{one['sessions']:,}",
        local(one["first_seen_at"]),
        local(one["last_used_at"]),
        printable(one["config_path"] or "-"),
    ]
