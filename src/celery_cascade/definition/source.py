"""Where a definition's bytes come from: a file that is opened once, text, or a mapping (R2 to R5, R9)."""

from __future__ import annotations

import difflib
import os
import shlex
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from celery_cascade.definition.cascade import Source, SourceFormat
from celery_cascade.definition.inline import yaml_of
from celery_cascade.errors import DefinitionError, DefinitionNotFound

DEFAULT_MAX_BYTES = 1024 * 1024
#: How the names of cascade files end.
_ENDINGS = (".yaml", ".yml", ".json")


def read_file(path: str | os.PathLike[str], max_bytes: int = DEFAULT_MAX_BYTES) -> Source:
    """Open the file once and keep exactly what was in it.

    The path is made absolute and otherwise kept as given: a link stays the link.

    Raises:
        DefinitionNotFound: there is no such file.
        DefinitionError: it cannot be read, or is larger than `max_bytes`.
    """
    try:
        absolute = os.path.abspath(os.fspath(path))
        with open(absolute, "rb") as file:
            body = file.read(max_bytes + 1)
            size = max(os.fstat(file.fileno()).st_size, len(body))
    except FileNotFoundError as error:
        raise DefinitionNotFound(f"{path}: there is no such file", hint=_near(os.fspath(path))) from error
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise DefinitionError(f"{path}: cannot be read: {reason}") from error
    if len(body) > max_bytes:
        raise _too_large(str(path), size, max_bytes)
    return Source(body=body, format=_format_of(absolute), path=absolute)


def from_bytes(
    body: bytes, *, source_format: SourceFormat = "yaml", path: str | None = None, max_bytes: int = DEFAULT_MAX_BYTES
) -> Source:
    """Bytes that were read elsewhere, kept as they are.

    Raises:
        DefinitionError: more than `max_bytes`.
    """
    if len(body) > max_bytes:
        raise _too_large(path or "the definition", len(body), max_bytes)
    return Source(body=bytes(body), format=source_format, path=path)


def from_text(
    text: str, *, source_format: SourceFormat = "inline", path: str | None = None, max_bytes: int = DEFAULT_MAX_BYTES
) -> Source:
    """Text as UTF-8.

    Raises:
        DefinitionError: more than `max_bytes`, or a lone surrogate, which UTF-8 cannot hold.
    """
    try:
        body = text.encode()
    except UnicodeEncodeError as error:
        raise DefinitionError(f"{path or 'the definition'}: character {error.start} is a lone surrogate") from error
    return from_bytes(body, source_format=source_format, path=path, max_bytes=max_bytes)


def from_mapping(
    mapping: Mapping[str, Any], *, source_format: SourceFormat = "inline", max_bytes: int = DEFAULT_MAX_BYTES
) -> Source:
    """A mapping as YAML that loads back equal, in the same order.

    Raises:
        DefinitionError: a value, named by its path, would not come back equal; or more than `max_bytes`.
    """
    return from_text(yaml_of(mapping, max_bytes), source_format=source_format, max_bytes=max_bytes)


def _near(path: str) -> str:
    """The cascade files beside it, those of like names if there are any; or where it was looked for."""
    beside, name = os.path.split(path)
    folder = os.path.abspath(beside)
    try:
        there = sorted(one for one in os.listdir(folder) if one.lower().endswith(_ENDINGS))
    except OSError:
        return f"There is no folder {folder} that could be read"
    if not there:
        return f"It was looked for in {folder}\nBegin with a project that runs: cascade init"
    near = difflib.get_close_matches(name, there, n=3) or there[:3]
    check = f"cascade validate {shlex.quote(os.path.join(beside, near[0]))}"
    return f"In {folder} there is: {', '.join(sorted(near))}\nSee whether that can be run: {check}"


def _format_of(path: str) -> SourceFormat:
    return "json" if PurePath(path).suffix.lower() == ".json" else "yaml"


def _too_large(name: str, size: int, limit: int) -> DefinitionError:
    return DefinitionError(
        f"{name}: the definition has {size:,} bytes, more than the limit of {limit:,}",
        hint="Move data into inputs, or raise cascade_max_definition_bytes\n"
        "See the limits with: cascade doctor --settings",
    )
