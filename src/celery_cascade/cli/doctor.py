"""`cascade doctor`: what is wrong, and what to do about it."""

from __future__ import annotations

import click

from celery_cascade.cli.caller import Caller
from celery_cascade.cli.checks import every, own_tasks
from celery_cascade.cli.effective import list_settings
from celery_cascade.cli.exits import DONE
from celery_cascade.cli.findings import Check
from celery_cascade.cli.fixing import fix as mend_all
from celery_cascade.cli.options import Verb, json_option
from celery_cascade.cli.problems import as_called
from celery_cascade.cli.report import markdown
from celery_cascade.cli.words import is_json, out, out_json, printable

_MARKS = {"ok": ("ok", "green"), "warning": ("warning", "yellow"), "error": ("ERROR", "red")}
#: Checks whose hint would frighten where all is well; it is in --json.
_ASIDE = ("references",)
_EXAMPLE = (
    "celery -A proj cascade doctor",
    "celery -A proj cascade doctor --tasks",
    "celery -A proj cascade doctor --settings",
    "celery -A proj cascade doctor --report",
)

_EXITS = {
    0: "all is well, warnings included",
    1: "something else is wrong",
    2: "a setting is",
    7: "the store is missing, damaged or out of date",
    69: "database or broker do not answer",
}


@click.command(cls=Verb, example=_EXAMPLE, exits=_EXITS)
@click.option("--tasks", is_flag=True, help="List the registered tasks, which a cascade file may name.")
@click.option("--settings", is_flag=True, help="List every setting, the value that holds, and where it comes from.")
@click.option("--fix", is_flag=True, help="Mend what can be mended without a loss, and say what was done.")
@click.option("--report", is_flag=True, help="Print a block to paste into a bug report; it holds no secrets.")
@json_option
def doctor(tasks: bool, settings: bool, fix: bool, report: bool, as_json: bool) -> None:
    """Look at settings, store, broker, workers and tasks, and say what is wrong and how to mend it.

    `--fix` makes or migrates an embedded store, makes tables again that were dropped from it, forgets workers that
    ended long ago; and a damaged SQLite file is moved to NAME.corrupt-<utc> after its readable rows were copied into
    a new store. It refuses while somebody uses the store, and never touches a server's tables.
    """
    caller = Caller.here()
    runtime = caller.runtime
    if settings:
        list_settings(runtime.app.conf)
    if fix:
        mend_all(runtime)
    found = every(runtime, caller)
    names = own_tasks(runtime) if tasks else None
    if report:
        out(markdown(runtime, found))
    elif is_json(click.get_current_context()):
        checks = [{**check.as_mapping(), "hint": as_called(check.hint)} for check in found]
        wrong = any(check.state == "error" for check in found)
        out_json({"ok": not wrong, "checks": checks} | ({} if names is None else {"tasks": names}))
    else:
        _tell(found)
        for name in names or ():
            out(printable(name))
    raise click.exceptions.Exit(next((check.code for check in found if check.state == "error"), DONE))


def _tell(found: list[Check]) -> None:
    for check in found:
        mark, colour = _MARKS[check.state]
        out(f"{click.style(f'{mark:<8}', fg=colour)}{check.name:<9} {printable(check.message, lines=True)}")
        if check.state == "ok" and check.name in _ASIDE:
            continue
        for line in as_called(check.hint).splitlines():
            out(f"{'':<18}{printable(line)}")
