"""Reading one field of a definition: the right type, within bounds, or an error at its place."""

from __future__ import annotations

from collections.abc import Collection

from celery_cascade.definition import durations
from celery_cascade.definition.document import Document
from celery_cascade.definition.nodes import Mapping, Node, Scalar, Sequence
from celery_cascade.words import listed, shown, suggestion, type_name


def mapping(document: Document, node: Node, what: str) -> Mapping:
    """The node as a mapping."""
    if not isinstance(node, Mapping):
        raise document.error(node.offset, f"{what} must be a mapping, not {kind(node)}")
    return node


def sequence(document: Document, node: Node, what: str) -> Sequence:
    """The node as a list."""
    if not isinstance(node, Sequence):
        raise document.error(node.offset, f"{what} must be a list, not {kind(node)}")
    return node


def check_keys(
    document: Document, node: Mapping, what: str, known: Collection[str], later: Collection[str] = ()
) -> None:
    """Refuse every key that means nothing here; `later` are those that a later version will know."""
    for key, entry in node.entries.items():
        if key in known:
            continue
        if key in later:
            raise document.error(entry.offset, f"{what}: {key!r} is not yet supported in this version")
        hint = suggestion(key, (one for one in known if one.isidentifier()), else_list="known are")  # not $schema
        raise document.error(entry.offset, f"{what}: unknown key {shown(key)}{hint}")


def text(document: Document, node: Node, what: str, *, longest: int, may_be_empty: bool = False) -> str:
    """Text of a bounded length."""
    if not isinstance(node, Scalar) or not isinstance(node.value, str):
        raise document.error(node.offset, f"{what} must be text, not {kind(node)}{_quote_it(node)}")
    if not node.value and not may_be_empty:
        raise document.error(node.offset, f"{what} must not be empty")
    if len(node.value) > longest:
        raise document.error(node.offset, f"{what} has {len(node.value)} characters; at most {longest} are allowed")
    return node.value


def name(document: Document, node: Node, what: str, *, longest: int) -> str:
    """Text that is a name: printable, no blanks around it, no template."""
    value = text(document, node, what, longest=longest)
    if "{{" in value or "{%" in value:
        raise document.error(node.offset, f"{what} cannot be a template")
    if not value.isprintable():
        raise document.error(node.offset, f"{what} has a character that cannot be printed: {shown(value)}")
    if value != value.strip():
        raise document.error(node.offset, f"{what} has blanks around it: {shown(value)}")
    return value


def integer(document: Document, node: Node, what: str, *, least: int, most: int) -> int:
    """A whole number within bounds."""
    value = node.value if isinstance(node, Scalar) else None
    if isinstance(value, bool) or not isinstance(value, int):
        raise document.error(node.offset, f"{what} must be a whole number, not {kind(node)}")
    if not least <= value <= most:
        raise document.error(node.offset, f"{what} must be from {least} to {most:,}, not {shown(value)}")
    return value


def duration(document: Document, node: Node, what: str, *, zero: bool = False) -> float:
    """A duration in seconds."""
    if not isinstance(node, Scalar):
        raise document.error(node.offset, f"{what} must be a duration such as 30s or 5m, not {kind(node)}")
    try:
        return durations.seconds(node.value, zero=zero)
    except ValueError as error:
        raise document.error(node.offset, f"{what}: {shown(node.written, quote=False)} {error}") from error


def choice(document: Document, node: Node, what: str, words: Collection[str]) -> str:
    """One of a few words."""
    value = node.written if isinstance(node, Scalar) else ""
    if value not in words:
        hint = suggestion(value, words)
        shown_value = shown(value) if isinstance(node, Scalar) else kind(node)
        raise document.error(node.offset, f"{what} must be one of {listed(words)}, not {shown_value}{hint}")
    return value


def kind(node: Node) -> str:
    """What a node is, for messages: `a list`, `the number 3`."""
    match node:
        case Sequence():
            return "a list"
        case Mapping():
            return "a mapping"
        case Scalar(value=None):
            return "null"
        case Scalar(value=str()):
            return f"the text {shown(node.value)}"
        case _:
            return f"the {type_name(node.value)} {shown(node.value)}"


def _quote_it(node: Node) -> str:
    if isinstance(node, Scalar) and node.value is not None:
        return f'; put it in quotes: "{shown(node.written, quote=False)}"'
    return ""
