"""`retry:` of a step merged key by key over that of `defaults:`."""

from __future__ import annotations

import re
from typing import Any

from celery_cascade.definition import durations, fields
from celery_cascade.definition.cascade import RetryPolicy
from celery_cascade.definition.document import Document
from celery_cascade.definition.nodes import Node, Scalar, Sequence
from celery_cascade.words import shown

KEYS = ("max_attempts", "backoff", "delay", "max_delay", "errors")
BACKOFFS = ("none", "linear", "exponential")
MOST_ATTEMPTS = 1_000_000
_ERROR = re.compile(r"[^\W\d]\w*(?:\.[^\W\d]\w*)*")


def retry_fields(document: Document, node: Node, what: str) -> dict[str, Any]:
    """The fields of a `RetryPolicy` that a `retry:` names; a number alone is `max_attempts`."""
    if isinstance(node, Scalar) and isinstance(node.value, int) and not isinstance(node.value, bool):
        return {"max_attempts": fields.integer(document, node, what, least=1, most=MOST_ATTEMPTS)}
    given = fields.mapping(document, node, f"{what}, unless it is a number of attempts,")
    fields.check_keys(document, given, what, KEYS)
    return {key: _field(document, key, entry.node, f"{what}.{key}") for key, entry in given.entries.items()}


def policy(document: Document, offset: int, what: str, found: dict[str, Any]) -> RetryPolicy:
    """The merged fields as a policy, checked against one another."""
    result = RetryPolicy(**found)
    if result.delay > result.max_delay:
        if "max_delay" in found:
            raise document.error(
                offset, f"{what}: delay ({result.delay:g}s) is longer than max_delay ({result.max_delay:g}s)"
            )
        result = RetryPolicy(**{**found, "max_delay": min(result.delay, durations.LONGEST)})
    if found and "max_attempts" not in found:
        document.warn(offset, f"{what} without max_attempts never tries again; add max_attempts: 3, say")
    return result


def _field(document: Document, key: str, node: Node, what: str) -> Any:
    match key:
        case "max_attempts":
            return fields.integer(document, node, what, least=1, most=MOST_ATTEMPTS)
        case "backoff":
            return fields.choice(document, node, what, BACKOFFS)
        case "errors":
            return _errors(document, node, what)
        case _:
            return fields.duration(document, node, what, zero=True)


def _errors(document: Document, node: Node, what: str) -> tuple[str, ...]:
    names = []
    for item in node.items if isinstance(node, Sequence) else [node]:
        word = fields.name(document, item, what, longest=255)
        if not _ERROR.fullmatch(word):
            raise document.error(item.offset, f"{what}: {shown(word)} is not the name of an exception class")
        names.append(word)
    return tuple(names)
