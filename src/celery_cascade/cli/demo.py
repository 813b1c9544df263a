"""`cascade demo`: see a worker killed and the session go on."""

from __future__ import annotations

from pathlib import Path

import click

from celery_cascade.cli.options import Verb
from celery_cascade.cli.words import out


@click.command(cls=Verb, example=("cascade demo",))
@click.argument("folder", required=False, type=click.Path(file_okay=False, path_type=Path))
@click.option("--keep/--clean", default=True, help="Keep what the demo made, to play with (default), or delete it.")
def demo(folder: Path | None, keep: bool) -> None:
    """Watch a worker being killed in the middle of a cascade, and the session end all the same.

    Needs no app, no server and no set-up: the app, the cascade file and the SQLite store are made in FOLDER, or in
    a new folder `cascade-demo` here.
    """
    from celery_cascade.demo import run_demo

    raise click.exceptions.Exit(run_demo(folder, echo=out, keep=keep))
