"""`cascade validate`: whether a cascade file says something that can be run."""

from __future__ import annotations

import difflib
from dataclasses import asdict, dataclass, field
from typing import Any

import click

from celery_cascade.cli.caller import Caller
from celery_cascade.cli.exits import INVALID
from celery_cascade.cli.options import Verb, json_option
from celery_cascade.cli.words import counted, is_json, out, out_json, printable, say
from celery_cascade.definition.cascade import Cascade
from celery_cascade.definition.reader import read_with_warnings
from celery_cascade.definition.source import read_file
from celery_cascade.errors import DefinitionError


@dataclass(slots=True)
class Finding:
    """Something about a file; `hint` is the line it is about, with a caret."""

    message: str
    hint: str = ""


@dataclass(slots=True)
class Report:
    """What is to be said about one file."""

    file: str
    cascade_id: str | None = None
    steps: int = 0
    errors: list[Finding] = field(default_factory=list)
    warnings: list[Finding] = field(default_factory=list)

    @property
    def valid(self) -> bool:
        """Whether it can be run."""
        return not self.errors


_EXAMPLE = ("cascade validate order.yaml refund.yaml", "celery -A proj cascade validate order.yaml")


@click.command(cls=Verb, example=_EXAMPLE)
@click.argument("files", metavar="FILE...", nargs=-1, required=True)
@json_option
def validate(files: tuple[str, ...], as_json: bool) -> None:
    """Check cascade files: what is wrong and where, and what probably does not mean what it looks like.

    Needs no app; with one it also says which tasks are not registered. Nothing is started. Exit 6 if a file
    cannot be run.
    """
    tasks = _tasks(Caller.here())
    reports = [check(file, tasks) for file in files]
    if is_json(click.get_current_context()):
        out_json({"valid": all(report.valid for report in reports), "files": [_as_json(report) for report in reports]})
    for report in reports:
        _tell(report, quiet=as_json)
    if not all(report.valid for report in reports):
        raise click.exceptions.Exit(INVALID)


def _tasks(caller: Caller) -> list[str] | None:
    if not caller.has_app:
        return None
    return [name for name in caller.app.tasks if not name.startswith("celery.")]


def check(file: str, tasks: list[str] | None) -> Report:
    """Everything that is to be said about one file; `tasks` = the registered ones, None if no app is known."""
    report = Report(file)
    try:
        cascade, warnings = read_with_warnings(read_file(file))
    except DefinitionError as error:
        report.errors.append(Finding(error.message, error.hint))
        return report
    report.cascade_id, report.steps = cascade.id, len(cascade.steps)
    report.warnings = [Finding(warning.message, warning.hint) for warning in warnings]
    if tasks is not None:
        report.errors = _unknown_tasks(file, cascade, tasks)
    return report


def _unknown_tasks(file: str, cascade: Cascade, tasks: list[str]) -> list[Finding]:
    found = []
    for step in cascade.steps:
        if step.task not in tasks:
            near = difflib.get_close_matches(step.task, tasks, n=1)
            meant = f"; did you mean {near[0]!r}?" if near else ""
            found.append(Finding(f"{file}: step {step.id!r}: task {step.task!r} is not registered{meant}"))
    return found


def _as_json(report: Report) -> dict[str, Any]:
    return {"valid": report.valid, **asdict(report)}


def _tell(report: Report, *, quiet: bool) -> None:
    for kind, findings in (("Error", report.errors), ("Warning", report.warnings)):
        for finding in findings:
            say(f"{kind}: {printable(finding.message)}")
            if finding.hint:
                say(printable(finding.hint, lines=True))
    if report.valid and not quiet:
        what = f"cascade {printable(report.cascade_id or '')} with {counted(report.steps, 'step')}"
        out(f"{printable(report.file)}: ok, {what}")
