"""`cascade crashtest`: crash your own cascade at every point of every step, and see what comes of it."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import click

from celery_cascade.cli import completing
from celery_cascade.cli.caller import Caller
from celery_cascade.cli.exits import DONE, FAILED
from celery_cascade.cli.file_set import source_named
from celery_cascade.cli.given import inputs_of
from celery_cascade.cli.manner import manner
from celery_cascade.cli.options import Duration, Verb, json_option
from celery_cascade.cli.tables import table
from celery_cascade.cli.words import is_json, out, out_json, printable, say
from celery_cascade.definition.reader import read_cascade
from celery_cascade.errors import UsageError
from celery_cascade.testing.crash_report import HEADINGS, CrashReport
from celery_cascade.testing.crashes import DEFAULT_POINTS, IN_BODY, Crash
from celery_cascade.testing.crashing import TIMEOUT, crash_test
from celery_cascade.testing.points import sentences
from celery_cascade.words import shown, suggestion

_EXAMPLE = (
    "celery -A proj cascade crashtest order.yaml -i order_id=7",
    "celery -A proj cascade crashtest order.yaml -i order_id=7 --effects checks:rows --reset checks:empty",
    "cascade crashtest --list-points",
)

_EXITS = {0: "all is well", 1: "a session was stuck, a finished step ran again, or output or effects differ"}


@click.command(cls=Verb, example=_EXAMPLE, exits=_EXITS)
@click.argument("file", metavar="FILE", required=False, shell_complete=completing.cascades)
@click.option("-i", "--input", "pairs", multiple=True, metavar="KEY=VALUE", help="An input; JSON where it is some.")
@click.option("--inputs", "inputs_file", metavar="FILE", help="Inputs as a JSON object; - reads stdin.")
@click.option(
    "--effects", metavar="MODULE:FUNCTION", help="Returns what the steps did outside, as JSON: rows, files, calls."
)
@click.option("--reset", metavar="MODULE:FUNCTION", help="Brings the outside back to what it was, before each run.")
@click.option(
    "--ignore", multiple=True, metavar="PATH", help="What differs from run to run anyway: output.token, effects.*.at."
)
@click.option("--points", multiple=True, metavar="NAMES", help="Where to crash, with commas; default, all, or names.")
@click.option(
    "--in-body",
    type=click.IntRange(min=0),
    default=IN_BODY,
    show_default=True,
    metavar="N",
    help="Crashes inside each body, spread evenly.",
)
@click.option(
    "--timeout", type=Duration(), default=f"{TIMEOUT:g}s", metavar="TIME", help="Longest that a run may take (60s)."
)
@click.option("--keep", is_flag=True, help="Keep the sandbox's folder, with what the tasks printed, and say where.")
@click.option("--list-points", is_flag=True, help="List the crash points, and what is true at each.")
@json_option
def crashtest(
    file: str | None,
    pairs: tuple[str, ...],
    inputs_file: str | None,
    effects: str | None,
    reset: str | None,
    ignore: tuple[str, ...],
    points: tuple[str, ...],
    in_body: int,
    timeout: timedelta,
    keep: bool,
    list_points: bool,
    as_json: bool,
) -> None:
    """Run the cascade in FILE in a sandbox, crash it at every point of every step, and print what came of it.

    It runs twice undisturbed; then once for each crash: a process ends there at once, as by kill -9, and a fresh one
    goes on. Your store and broker are not touched: each run has an SQLite store of its own in a temporary folder,
    and messages go nowhere. Your tasks are the real ones: what they do outside, they do in every run. Point them at
    test systems.

    Inside a body, where exactly is a matter of time: after a part of what the body took undisturbed. One that takes
    under 20 ms is ended between two of its lines. EFFECTS say `not seen` without --effects; KEY says whether the body
    asked for its idempotency key; BACK IN is how soon the session moved again, in this sandbox.
    """
    if list_points:
        _list_points()
        return
    if file is None:
        raise click.UsageError("Missing argument 'FILE'.")
    if timeout <= timedelta():
        raise UsageError("--timeout must be more than 0")
    cascades = Caller.here().cascades
    source = source_named(cascades, file)
    report = crash_test(
        cascades.app,
        source,
        inputs_of(read_cascade(source), pairs, inputs_file),
        points=points,
        in_body=in_body,
        effects=_function(effects, "--effects"),
        reset=_function(reset, "--reset"),
        ignore=ignore,
        timeout=timeout.total_seconds(),
        keep=keep,
        tell=None if manner().quiet else Progress(),
    )
    _print(report)
    raise click.exceptions.Exit(DONE if report.ok else FAILED)


def _print(report: CrashReport) -> None:
    if is_json(click.get_current_context()):
        out_json({"crashtest": report.to_dict()})
    else:
        if report.rows:
            table(HEADINGS, [[printable(cell) for cell in row] for row in report.table()])
        first, *more = report.verdict()
        out(click.style(first, fg="green" if report.ok else "red", bold=True))
        for line in more:
            out(printable(line))
    for note in report.notes:
        say(f"Note: {printable(note)}")
    if report.folder:
        say(f"The sandbox is kept: {report.folder}")


class Progress:
    """Says on stderr how far it is: in one line that changes on a terminal, else at each tenth."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._tenth = 0

    def __call__(self, number: int, count: int, crash: Crash | None) -> None:
        """Before each run."""
        if crash is None:
            say("Running it twice without a crash; its tasks run for real, in this and in every later run.")
            return
        if number == 1:
            say(f"Crashing it {count} times.")
        if self._terminal:
            where = f"{number}/{count} {printable(crash.step or 'the session')}: {crash.words}"
            click.echo(f"\r\x1b[K{where[:76]}" + ("\r\x1b[K" if number == count else ""), err=True, nl=False)
        elif number * 10 // count > self._tenth and number < count:
            self._tenth = number * 10 // count
            say(f"{number} of {count}")


def _list_points() -> None:
    said = sentences()
    if is_json(click.get_current_context()):
        names = {point.value: {"says": words, "default": point in DEFAULT_POINTS} for point, words in said.items()}
        out_json({"points": names})
        return
    longest = max(map(len, said))
    for point, words in said.items():
        out(f"{'*' if point in DEFAULT_POINTS else ' '} {point.value:<{longest}}  {words}")
    out("* = without --points")


def _function(name: str | None, option: str) -> Callable[[], Any] | None:
    """The function that `module:function` names."""
    if name is None:
        return None
    module, colon, attribute = name.partition(":")
    if not colon or not module or not attribute:
        raise UsageError(f"{option} {shown(name)} names no function", hint="Write it as module:function")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        loaded = importlib.import_module(module)
    except Exception as error:
        raise UsageError(f"{option}: the module {module!r} cannot be loaded: {error}") from error
    found = getattr(loaded, attribute, None)
    if not callable(found):
        near = suggestion(attribute, [word for word in vars(loaded) if not word.startswith("_")])
        raise UsageError(f"{option}: {module} has no function {attribute!r}{near}")
    function: Callable[[], Any] = found
    return function
