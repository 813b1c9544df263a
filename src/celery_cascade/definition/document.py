"""Bytes to a `Document`: decoded, parsed as YAML or JSON, every value with its place."""

from __future__ import annotations

from dataclasses import dataclass, field

from celery_cascade.definition import json_document, yaml_document
from celery_cascade.definition.cascade import Source
from celery_cascade.definition.limits import MAX_WARNINGS
from celery_cascade.definition.nodes import Node
from celery_cascade.definition.places import Text, Warning_, name_of
from celery_cascade.errors import DefinitionError

_BOM = b"\xef\xbb\xbf"
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")


@dataclass(slots=True)
class Document:
    """A parsed definition, not yet understood.

    Args:
        text: for messages.
        root: the outermost value.
        warnings: what reads otherwise than it looks.
    """

    text: Text
    root: Node
    warnings: list[Warning_] = field(default_factory=list)

    def error(self, offset: int, what: str) -> DefinitionError:
        """An error at a place of this document, ready to be raised."""
        return self.text.error(offset, what)

    def warn(self, offset: int, what: str) -> None:
        """Remember a warning; of very many the first are enough."""
        if len(self.warnings) < MAX_WARNINGS:
            self.warnings.append(self.text.warning(offset, what))


def parse(source: Source) -> Document:
    """Parse the bytes of a definition.

    Raises:
        DefinitionError: not UTF-8, not well-formed, or one of the traps of YAML (duplicate keys, foreign tags,
            aliases that grow without bound), with file, line and column.
    """
    text = Text(name_of(source.path), _decode(source))
    if source.format in ("json", "canvas"):
        return Document(text, json_document.read(text))
    doubts: list[tuple[int, str]] = []
    document = Document(text, yaml_document.read(text, doubts))
    for offset, what in doubts:
        document.warn(offset, what)
    return document


def _decode(source: Source) -> str:
    body = source.body
    start = len(_BOM) if body.startswith(_BOM) else 0
    try:
        return body[start:].decode("utf-8")
    except UnicodeDecodeError as error:
        offset = error.start + start
        line = body.count(b"\n", 0, offset) + 1
        column = len(body[body.rfind(b"\n", 0, offset) + 1 : offset].decode("utf-8", "replace")) + 1
        encoding = "UTF-16" if body.startswith(_UTF_16) else "not UTF-8"
        raise DefinitionError(
            f"{name_of(source.path)}:{line}:{column}: byte {offset} (0x{body[offset]:02x}) is not UTF-8",
            hint=f"The file is {encoding}; save it as UTF-8.",
            file=name_of(source.path),
            line=line,
            column=column,
        ) from error
