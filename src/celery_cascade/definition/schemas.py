"""`inputs:` of a definition: a JSON Schema each, or a bare type name."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError, best_match

from celery_cascade.definition import fields
from celery_cascade.definition.document import Document
from celery_cascade.definition.limits import MAX_SCHEMA_DEPTH, MAX_SCHEMA_VALUES
from celery_cascade.definition.nodes import Mapping, Node, Scalar, Sequence
from celery_cascade.words import listed, nearest, shown, words

TYPES = ("string", "integer", "number", "boolean", "object", "array", "null")
_OTHER_WORDS = {
    "str": "string", "text": "string", "int": "integer", "float": "number", "bool": "boolean", "dict": "object",
    "map": "object", "mapping": "object", "list": "array", "none": "null", "date": "string", "datetime": "string",
}  # fmt: skip
REFERENCES = ("$ref", "$dynamicRef", "$recursiveRef", "$id", "$schema")
_WORDS = words(
    "type enum const default title description examples format pattern minLength maxLength minimum maximum "
    "exclusiveMinimum exclusiveMaximum multipleOf items prefixItems contains minContains maxContains minItems maxItems "
    "uniqueItems properties patternProperties additionalProperties propertyNames required minProperties "
    "maxProperties dependentRequired dependentSchemas allOf anyOf oneOf not if then else deprecated readOnly "
    "writeOnly unevaluatedItems unevaluatedProperties contentEncoding contentMediaType contentSchema $comment "
    "$defs $anchor"
)


def read_inputs(document: Document, node: Node | None) -> dict[str, dict[str, Any]] | None:
    """The schema of each input; None when the definition does not declare any.

    Raises:
        DefinitionError: a schema that is none, or a default that does not fit its own schema.
    """
    if node is None:
        return None
    declared = fields.mapping(document, node, "inputs")
    if _count(declared) > MAX_SCHEMA_VALUES:
        raise document.error(declared.offset, f"the schemas of inputs hold more than {MAX_SCHEMA_VALUES:,} values")
    return {name: _schema(document, name, entry.node) for name, entry in declared.entries.items()}


def _schema(document: Document, name: str, node: Node) -> dict[str, Any]:
    what = f"inputs.{shown(name, quote=False)}"
    if not name or len(name) > 255:
        raise document.error(node.offset, "the name of an input must have 1 to 255 characters")
    if isinstance(node, Scalar) and isinstance(node.value, str):
        return {"type": _type(document, node, what)}
    if isinstance(node, Scalar) and node.written == "null":
        return {"type": "null"}
    given = fields.mapping(document, node, f"{what}, unless it is a type name,")
    if given.height > MAX_SCHEMA_DEPTH:
        raise document.error(given.offset, f"{what}: nested deeper than {MAX_SCHEMA_DEPTH} levels")
    for offset, reference in _references(given):
        raise document.error(
            offset, f"{what}: {reference} is not supported; write the schema out (a YAML anchor can repeat it)"
        )
    if isinstance(given.get("type"), Scalar):
        _type(document, given.entries["type"].node, f"{what}.type")
    _check(document, given, what)
    _warn_of_unknown_words(document, given, what)
    return given.plain()


def _type(document: Document, node: Node, what: str) -> str:
    word = node.written if isinstance(node, Scalar) else ""
    if word in TYPES:
        return word
    right = _OTHER_WORDS.get(word.lower()) or nearest(word, TYPES)
    hint = f"; did you mean '{right}'?" if right else ""
    raise document.error(node.offset, f"{what}: {shown(word)} is not a type; types are {listed(TYPES)}{hint}")


def _check(document: Document, node: Mapping, what: str) -> None:
    schema = node.plain()
    try:
        _check_schema(json.dumps(schema))
    except SchemaError as error:
        at, path = _find(node, list(error.absolute_path))
        raise document.error(at, f"{what}{path}: {shown(error.message, quote=False)}") from error
    except (ValueError, OverflowError, RecursionError) as error:  # a pattern that the regex compiler gives up on
        raise document.error(node.offset, f"{what}: not a usable JSON Schema: {error}") from error
    if "default" in schema:
        problem = best_match(Draft202012Validator(schema).iter_errors(schema["default"]))
        if problem is not None:
            at = node.entries["default"].node.offset
            raise document.error(at, f"{what}: the default does not fit: {shown(problem.message, quote=False)}")


@lru_cache(maxsize=512)
def _check_schema(canonical: str) -> None:
    Draft202012Validator.check_schema(json.loads(canonical), format_checker=Draft202012Validator.FORMAT_CHECKER)


def _find(node: Node, path: list[str | int]) -> tuple[int, str]:
    """Where a path of jsonschema leads, as far as it can be followed."""
    way = ""
    for part in path:
        if isinstance(node, Mapping) and str(part) in node.entries:
            node, way = node.entries[str(part)].node, f"{way}.{part}"
        elif isinstance(node, Sequence) and isinstance(part, int) and part < len(node.items):
            node, way = node.items[part], f"{way}[{part}]"
        else:
            break
    return node.offset, way


def _references(node: Node) -> Iterator[tuple[int, str]]:
    """Keys that would make a schema look elsewhere: over the network, or for ever at itself."""
    if isinstance(node, Sequence):
        for item in node.items:
            yield from _references(item)
    if isinstance(node, Mapping):
        for key, entry in node.entries.items():
            if key in REFERENCES:
                yield entry.offset, key
            if key not in ("const", "enum", "default", "examples"):
                yield from _references(entry.node)


def _warn_of_unknown_words(document: Document, node: Mapping, what: str) -> None:
    for key, entry in node.entries.items():
        if key not in _WORDS and (right := nearest(key, _WORDS)):
            document.warn(entry.offset, f"{what}: JSON Schema has no {shown(key)}; did you mean {right!r}?")


def _count(node: Node) -> int:
    """How many values a node holds, aliases written out; counting ends above the limit."""
    total, waiting = 0, [node]
    while waiting and total <= MAX_SCHEMA_VALUES:
        one = waiting.pop()
        total += 1
        if isinstance(one, Sequence):
            waiting += one.items
        elif isinstance(one, Mapping):
            waiting += [entry.node for entry in one.entries.values()]
    return total
