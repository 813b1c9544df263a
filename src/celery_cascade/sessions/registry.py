"""The session registry: sessions found again by the files that they were started from (R58-R68).

There is no file beside the store: every session's row bears the execution key of its files, and is written before
anything of it runs.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from celery_cascade.errors import DefinitionNotFound, UsageError
from celery_cascade.persistence.rows import Row
from celery_cascade.persistence.views import SessionFilter
from celery_cascade.sessions.execution_key import execution_key, is_path
from celery_cascade.tasks.runtime import Runtime
from celery_cascade.words import shown, suggestion

#: What cascade files are called; such a name is a file even if nothing is there.
SUFFIXES = (".yaml", ".yml", ".json")


def is_file_name(text: str) -> bool:
    """Whether a word is a cascade file and no session id (D8): it exists, or is called like one."""
    return text.lower().endswith(SUFFIXES) or os.path.isfile(text)


def path_of(runtime: Runtime, target: Any) -> str:
    """The path of a file as it was given, or of a registered cascade; the file need not be there any more.

    Raises:
        DefinitionNotFound: it is neither.
        UsageError: it is no path at all.
    """
    if not isinstance(target, (str, os.PathLike)) or not isinstance(os.fspath(target), str):
        raise UsageError(
            f"{shown(target)} is no path of a cascade file", hint="Give a path, or the name of a registered cascade"
        )
    text = os.fspath(target)
    if not is_path(text):
        raise UsageError(f"{text!a} is no path of a cascade file", hint="Such as: order.yaml")
    if text in runtime.registered:
        return runtime.registered[text]
    if is_file_name(text):
        return text
    raise DefinitionNotFound(
        f"{text!r} is neither a cascade file nor a registered cascade{suggestion(text, runtime.registered)}",
        hint="Give the path of a .yaml or .json file, or register it first: cascades.register('order.yaml')",
    )


def last_of(runtime: Runtime, paths: Iterable[str]) -> Row | None:
    """The newest session of exactly this set of files, whatever became of it; None if there never was one."""
    rows = runtime.store.sessions(SessionFilter(execution_key=execution_key(paths), limit=1))
    return rows[0] if rows else None
