"""What `validate` finds in each file."""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from celery_cascade.definition.cascade import Cascade, Source
from celery_cascade.definition.locate import step_error, step_warning
from celery_cascade.definition.places import Warning_
from celery_cascade.definition.reader import read_with_warnings
from celery_cascade.definition.source import DEFAULT_MAX_BYTES, from_bytes, read_file
from celery_cascade.errors import DefinitionError
from celery_cascade.words import suggestion

STDIN = "-"


@dataclass(slots=True)
class Finding:
    """Something about a file, at a place of it if there is one; `excerpt` is the line with a caret."""

    message: str
    file: str | None = None
    line: int | None = None
    column: int | None = None
    excerpt: str = ""
    hint: str = ""


@dataclass(slots=True)
class Report:
    """What is to be said about one file."""

    file: str
    cascade_id: str | None = None
    steps: int = 0
    errors: list[Finding] = field(default_factory=list)
    warnings: list[Finding] = field(default_factory=list)
    strict: bool = False

    @property
    def valid(self) -> bool:
        """Whether it can be run; when strict, without a doubt."""
        return not self.errors and not (self.strict and self.warnings)


def files_of(patterns: Iterable[str]) -> list[str]:
    """The files that are meant, each once: a pattern that the shell has left alone gives all that it matches."""
    found: dict[str, None] = {}
    for pattern in patterns:
        matching = [] if os.path.lexists(pattern) else sorted(glob.glob(pattern, recursive=True))
        found.update(dict.fromkeys(matching or [pattern]))
    return list(found)


def check(file: str, tasks: Mapping[str, Any] | None, limit: int | None = None, *, strict: bool = False) -> Report:
    """Everything that is to be said about one file.

    Args:
        file: its path; `-` = stdin.
        tasks: the registered ones by name; None if no app is known.
        limit: bytes; None = the default.
        strict: whether warnings count as errors.
    """
    report = Report("<stdin>" if file == STDIN else file, strict=strict)
    try:
        source = _read(file, DEFAULT_MAX_BYTES if limit is None else limit)
        cascade, warnings = read_with_warnings(source)
    except DefinitionError as error:
        report.errors.append(_finding(error))
        return report
    report.cascade_id, report.steps = cascade.id, len(cascade.steps)
    report.warnings = [_doubt(warning) for warning in warnings]
    if tasks is not None:
        _check_tasks(report, source, cascade, tasks)
    return report


def _read(file: str, limit: int) -> Source:
    if file == STDIN:
        return from_bytes(sys.stdin.buffer.read(limit + 1), path="<stdin>", max_bytes=limit)
    if glob.has_magic(file) and not os.path.lexists(file):
        raise DefinitionError(f"{file}: no file is so called", hint="Quote a pattern, and write **/ for any folder")
    return read_file(file, limit)


def _check_tasks(report: Report, source: Source, cascade: Cascade, tasks: Mapping[str, Any]) -> None:
    from celery_cascade.tasks.arguments import mismatch

    for step in cascade.steps:
        task = tasks.get(step.task)
        if task is None:
            hint = suggestion(step.task, tasks, else_list="registered are")
            what = f"step {step.id!r}: task {step.task!r} is not registered{hint}"
            report.errors.append(_finding(step_error(source, step.id, ("task",), what)))
            continue
        wrong = mismatch(task, step.arguments)
        if wrong is None:
            continue
        keys, what = ("with", wrong.key or ""), f"step {step.id!r}: {wrong.what}"
        if wrong.certain:
            report.errors.append(_finding(step_error(source, step.id, keys, what)))
        else:
            what += " (unless the `__call__` of its class gives it)"
            report.warnings.append(_doubt(step_warning(source, step.id, keys, what)))


def _finding(error: DefinitionError) -> Finding:
    hint = "" if error.line else error.hint  # that of a place says to validate
    return Finding(error.message, error.file, error.line, error.column, error.excerpt, hint)


def _doubt(warning: Warning_) -> Finding:
    return Finding(warning.message, warning.file, warning.line, warning.column, warning.excerpt)
