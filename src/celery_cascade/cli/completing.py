"""What the shell offers after a TAB: cascade files and names, session ids, statuses. Whatever goes wrong: nothing.

While a shell completes no verb runs, so the app is found from the words on the line.
"""

from __future__ import annotations

import glob
import io
import os
import re
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

T = TypeVar("T")

#: Seconds that a store may take; somebody waits at a prompt.
PATIENCE = 1.5
#: Sessions that are offered.
NEWEST = 50
_WORDS = ("@last", "@last-failed")
_SUFFIXES = (".yaml", ".yml", ".json")
_CASCADE = re.compile(rb"""^[ \t{]*["']?cascade["']?[ \t]*:[ \t]*["'\w]""", re.MULTILINE)
_LOOKED_AT = 2000  # entries of folders
_DEEP = 3
_SKIPPED = ("node_modules", "venv", "site-packages")


def statuses(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Session statuses; after a comma the next one."""
    from celery_cascade.states import SessionStatus

    before, comma, word = incomplete.rpartition(",")
    return [CompletionItem(f"{before}{comma}{one.value}") for one in SessionStatus if one.value.startswith(word)]


def sessions(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The newest session ids of the app's store, with cascade and status."""
    words = [CompletionItem(word) for word in _WORDS if word.startswith(incomplete)]
    if incomplete.startswith("@"):
        return words
    rows = in_time(lambda: _newest(ctx, incomplete)) or []
    return [*(CompletionItem(row["session_id"], help=f"{row['cascade_id']} {row['status']}") for row in rows), *words]


def cascades(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Cascade files here and below, and the registered cascades."""
    found = [CompletionItem(path) for path in files(incomplete)]
    names = in_time(lambda: _registered(ctx)) or []
    found += [CompletionItem(name, help="registered") for name in names if name.startswith(incomplete)]
    return found or [CompletionItem(incomplete, type="file")]


def cascade_files(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Cascade files here and below."""
    return [CompletionItem(path) for path in files(incomplete)] or [CompletionItem(incomplete, type="file")]


def in_time(ask: Callable[[], T]) -> T | None:
    """An answer if it comes in time and without an error."""
    answers: list[T] = []

    def run() -> None:
        try:
            answers.append(ask())
        except BaseException:  # noqa: BLE001  a user's module may even exit; there is nobody to tell
            return

    thread = threading.Thread(target=run, daemon=True)
    words = io.StringIO()  # a module that prints must not print into the answer, nor into the prompt
    with redirect_stdout(words), redirect_stderr(words):
        thread.start()
        thread.join(PATIENCE)
    return answers[0] if answers else None


def app_of(ctx: click.Context) -> Any:
    """The app that the words on the line name, else the environment; None if nothing does."""
    from celery.app.utils import find_app

    given: Any = None
    place: click.Context | None = ctx
    while place is not None and not given:
        given = place.params.get("app_name") or place.params.get("app")
        place = place.parent
    given = given or os.environ.get("CELERY_APP")
    if isinstance(given, str):
        if os.getcwd() not in sys.path:
            sys.path.insert(0, os.getcwd())
        return find_app(given)
    return given


def _newest(ctx: click.Context, incomplete: str) -> list[dict[str, Any]]:
    from celery_cascade.persistence import migrate
    from celery_cascade.persistence.store import Store
    from celery_cascade.persistence.views import SessionFilter
    from celery_cascade.tasks.runtime import runtime_of

    runtime = runtime_of(app_of(ctx))
    if runtime is None or (runtime.embedded_store and not (runtime.home / "store.sqlite").is_file()):
        return []
    database = runtime.open_database(null_pool=True)  # never migrated, never made: nobody asked for that
    try:
        migrate.check(database)
        return [dict(row) for row in Store(database).sessions(SessionFilter(prefix=incomplete or None, limit=NEWEST))]
    finally:
        database.dispose()


def _registered(ctx: click.Context) -> list[str]:
    from celery_cascade.definition.reader import read_cascade
    from celery_cascade.definition.source import read_file
    from celery_cascade.errors import DefinitionError
    from celery_cascade.tasks.runtime import runtime_of

    runtime = runtime_of(app_of(ctx))
    if runtime is None:
        return []
    paths = [path for pattern in runtime.config.definitions for path in glob.glob(pattern, recursive=True)]
    found = set(runtime.registered)
    for path in paths[:NEWEST]:
        with suppress(DefinitionError):
            found.add(read_cascade(read_file(path)).id)
    return sorted(found)


def files(incomplete: str) -> list[str]:
    """Paths of cascade files that begin so. Whole paths, so that no folder has to be completed by itself."""
    folder = os.path.dirname(incomplete)
    found = [path for path in _walk(folder or ".") if path.startswith(incomplete) and _is_cascade(path)]
    return sorted(found)


def _walk(top: str) -> Iterator[str]:
    left = _LOOKED_AT
    for folder, folders, names in os.walk(top):
        deep = len(Path(os.path.relpath(folder, top)).parts)
        folders[:] = sorted(one for one in folders if one[0] not in "._" and one not in _SKIPPED and deep < _DEEP)
        left -= len(names)
        if left < 0:
            return
        yield from (os.path.normpath(os.path.join(folder, name)) for name in names if name.endswith(_SUFFIXES))


def _is_cascade(path: str) -> bool:
    try:
        with open(path, "rb") as file:
            return _CASCADE.search(file.read(4096)) is not None
    except OSError:
        return False
