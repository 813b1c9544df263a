"""JSON text to nodes, strictly as RFC 8259, with places and without duplicate keys."""

from __future__ import annotations

import math
import re
from json import JSONDecodeError
from json import decoder as _decoder
from typing import Any

from celery_cascade.definition.limits import MAX_DEPTH, MAX_DIGITS
from celery_cascade.definition.nodes import Mapping, Node, Scalar, Sequence
from celery_cascade.definition.places import Text
from celery_cascade.words import shown

_scanstring: Any = getattr(_decoder, "scanstring")  # noqa: B009  -- not in the type stubs
_SPACE = re.compile(r"[ \t\n\r]*")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?")
_WORD = re.compile(r"[A-Za-z0-9_.+-]+")
_CONSTANTS: dict[str, bool | None] = {"true": True, "false": False, "null": None}


def read(text: Text) -> Node:
    """The value in `text`.

    Raises:
        DefinitionError: not JSON, a key twice, or nested too deeply; with file, line and column.
    """
    reader = _Reader(text)
    start = reader.skip(0)
    if start == len(text.content):
        raise text.error(start, "the file is empty; it must hold a cascade")
    node, end = reader.value(start, 0)
    end = reader.skip(end)
    if end != len(text.content):
        raise text.error(end, "more text after the end of the JSON value")
    return node


class _Reader:
    def __init__(self, text: Text) -> None:
        self._text = text
        self._content = text.content

    def skip(self, at: int) -> int:
        match = _SPACE.match(self._content, at)
        return match.end() if match else at

    def value(self, at: int, depth: int) -> tuple[Node, int]:
        """The value that starts at `at`, and where it ends."""
        char = self._content[at : at + 1]
        if char in ("{", "[") and depth >= MAX_DEPTH:
            raise self._text.error(at, f"nested deeper than {MAX_DEPTH} levels")
        if char == "{":
            return self._mapping(at, depth)
        if char == "[":
            return self._sequence(at, depth)
        if char == '"':
            value, end = self._string(at)
            return Scalar(at, value, value), end
        return self._word(at)

    def _mapping(self, start: int, depth: int) -> tuple[Mapping, int]:
        node = Mapping(start)
        at = self.skip(start + 1)
        if self._content[at : at + 1] == "}":
            return node, at + 1
        while True:
            key_at = at
            if self._content[at : at + 1] != '"':
                raise self._text.error(at, 'expected a key in "double quotes"' + self._trailing(at))
            key, at = self._string(at)
            if key in node.entries:
                first, _ = self._text.place(node.entries[key].offset)
                raise self._text.error(key_at, f"the key {shown(key)} appears twice, first in line {first}")
            at = self._expect(self.skip(at), ":", f"expected ':' after the key {shown(key)}")
            value, at = self.value(self.skip(at), depth + 1)
            node.put(key, key_at, value)
            at = self.skip(at)
            if self._content[at : at + 1] == "}":
                return node, at + 1
            at = self.skip(self._expect(at, ",", "expected ',' or '}'"))

    def _sequence(self, start: int, depth: int) -> tuple[Sequence, int]:
        node = Sequence(start)
        at = self.skip(start + 1)
        if self._content[at : at + 1] == "]":
            return node, at + 1
        while True:
            value, at = self.value(at, depth + 1)
            node.append(value)
            at = self.skip(at)
            if self._content[at : at + 1] == "]":
                return node, at + 1
            at = self.skip(self._expect(at, ",", "expected ',' or ']'"))

    def _expect(self, at: int, char: str, what: str) -> int:
        if self._content[at : at + 1] != char:
            raise self._text.error(at, what)
        return at + 1

    def _string(self, at: int) -> tuple[str, int]:
        try:
            value, end = _scanstring(self._content, at + 1, True)
            value.encode()
        except JSONDecodeError as error:
            raise self._text.error(error.pos, f"not a JSON string: {error.msg}") from error
        except UnicodeEncodeError as error:
            raise self._text.error(at, "text with a lone surrogate, which UTF-8 cannot hold") from error
        return value, end

    def _word(self, at: int) -> tuple[Scalar, int]:
        match = _WORD.match(self._content, at)
        word = match.group() if match else ""
        if word in _CONSTANTS:
            return Scalar(at, _CONSTANTS[word], word), at + len(word)
        number = _NUMBER.fullmatch(word)
        if number is None:
            raise self._text.error(at, self._unexpected(at, word))
        return Scalar(at, self._number(at, word, whole=number.group(1, 2) == (None, None)), word), at + len(word)

    def _number(self, at: int, word: str, *, whole: bool) -> Any:
        if len(word) > MAX_DIGITS:
            raise self._text.error(at, f"a number of more than {MAX_DIGITS} characters; write it as text")
        value = int(word) if whole else float(word)
        if isinstance(value, float) and not math.isfinite(value):
            raise self._text.error(at, f"{shown(word)} is larger than any number")
        return value

    def _unexpected(self, at: int, word: str) -> str:
        if at >= len(self._content):
            return "the JSON ends here, in the middle of a value"
        if self._content[at] in "/#":
            return "JSON has no comments; name the file .yaml if it needs them"
        return f"expected a JSON value, found {shown(word or self._content[at])}" + self._trailing(at)

    def _trailing(self, at: int) -> str:
        before = self._content[:at].rstrip(" \t\n\r")
        return (
            "; take the comma before it out"
            if before.endswith(",") and self._content[at : at + 1] in ("}", "]")
            else ""
        )
