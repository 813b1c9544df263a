"""The FILEs of a `run`: which of them is run, and which set of files that is (D8)."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from celery_cascade.app import Cascades
from celery_cascade.cli.resume_option import Resume
from celery_cascade.definition.cascade import Source
from celery_cascade.definition.roots import roots_of
from celery_cascade.errors import DefinitionNotFound, UsageError
from celery_cascade.sessions.registry import is_file_name, path_of
from celery_cascade.sessions.starting import read_target
from celery_cascade.words import listed


@dataclass(frozen=True, slots=True, kw_only=True)
class FileSet:
    """Files that are run together.

    Args:
        root: the one that is run, as it was written.
        path: where that is.
        paths: all of them.
    """

    root: str
    path: str
    paths: tuple[str, ...]


def file_set(cascades: Cascades, files: Sequence[str]) -> FileSet:
    """The set that these files and names make; they need not be there.

    Raises:
        DefinitionNotFound: a word is neither a file nor a registered cascade.
        UsageError: it is not clear which one is to be run.
    """
    found: dict[str, tuple[str, str]] = {}
    for file in files:
        path = _path(cascades, file)
        found.setdefault(os.path.realpath(path), (file, path))
    roots = roots_of(dict.fromkeys(found, ()))  # no file can name another one yet
    if len(roots) != 1:
        names = [found[real][0] for real in roots or found]
        raise UsageError(
            f"{listed(names)}: none of these files refers to another one, so it is not clear which one to run",
            hint=f"Run one at a time: cascade run {shlex.quote(names[0])}",
        )
    root, path = found[roots[0]]
    return FileSet(root=root, path=path, paths=tuple(path for _, path in found.values()))


def only_file(cascades: Cascades, resume: Resume | None) -> str | None:
    """What stands after `--resume`, if it is the FILE that is missing; None if it is none."""
    word = None if resume is None or resume.bound else resume.session
    if word is None:
        return None
    if not is_file_name(word) and word not in cascades.runtime.registered:
        cascades.register_configured()
    return word if is_file_name(word) or word in cascades.runtime.registered else None


def source_named(cascades: Cascades, file: str) -> Source:
    """The definition, read once; `cascade_definitions` is looked through only for what is no file."""
    _path(cascades, file)
    return read_target(cascades.runtime, file)


def _path(cascades: Cascades, file: str) -> str:
    try:
        return path_of(cascades.runtime, file)
    except DefinitionNotFound:
        if not cascades.runtime.config.definitions:
            raise
    cascades.register_configured()
    return path_of(cascades.runtime, file)
