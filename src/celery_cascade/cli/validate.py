"""`cascade validate`: whether a cascade file says something that can be run."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import click

from celery_cascade.cli import completing
from celery_cascade.cli.caller import Caller
from celery_cascade.cli.exits import INVALID
from celery_cascade.cli.options import Verb, json_option
from celery_cascade.cli.reports import Report, check, files_of
from celery_cascade.cli.words import complain, counted, is_json, out, out_json, printable, say

_EXAMPLE = (
    "cascade validate order.yaml refund.yaml",
    "celery -A proj cascade validate '**/*.yaml' --strict",
)


@click.command(cls=Verb, example=_EXAMPLE, exits={0: "all can be run", 6: "a file cannot be run"})
@click.argument("files", metavar="FILE...", nargs=-1, required=True, shell_complete=completing.cascade_files)
@click.option("--strict", is_flag=True, help="Count warnings as errors: exit 6.")
@json_option
def validate(files: tuple[str, ...], strict: bool, as_json: bool) -> None:
    """Check cascade files: what is wrong and where, and what probably does not mean what it looks like.

    FILE may be a pattern such as '**/*.yaml', or - for stdin. Needs no app; with one it also says which tasks are
    not registered or do not take the arguments that a step gives. Nothing is started.
    """
    caller = Caller.here()
    tasks, limit = _known(caller)
    reports = [check(file, tasks, limit, strict=strict) for file in files_of(files)]
    valid = all(report.valid for report in reports)
    if is_json(click.get_current_context()):
        out_json({"valid": valid, "files": [_as_json(report) for report in reports]})
    for report in reports:
        _tell(report, quiet=as_json)
    if tasks is None and any(report.valid for report in reports):
        say("The tasks were not looked at, for want of an app; with one: celery -A proj cascade validate FILE")
    if not valid:
        raise click.exceptions.Exit(INVALID)


def _known(caller: Caller) -> tuple[dict[str, Any] | None, int | None]:
    """The registered tasks and the limit of a file's size; None if no app says."""
    if not caller.has_app:
        return None, None
    from celery_cascade.tasks.runtime import runtime_of

    tasks = {name: task for name, task in caller.app.tasks.items() if not name.startswith("celery.")}
    runtime = runtime_of(caller.app)
    return tasks, None if runtime is None else runtime.config.max_definition_bytes


def _as_json(report: Report) -> dict[str, Any]:
    found = {"valid": report.valid, **asdict(report)}
    del found["strict"]
    return found


def _tell(report: Report, *, quiet: bool) -> None:
    for kind, findings in (("Error", report.errors), ("Warning", report.warnings)):
        for finding in findings:
            tell = say if kind == "Warning" and not report.strict else complain
            tell(f"{kind}: {printable(finding.message)}")
            for lines in (finding.excerpt, finding.hint):
                if lines:
                    tell(printable(lines, lines=True))
    if report.valid and not quiet:
        what = f"cascade {printable(report.cascade_id or '')} with {counted(report.steps, 'step')}"
        out(f"{printable(report.file)}: ok, {what}")
