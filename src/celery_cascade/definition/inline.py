"""A mapping made in Python, written as YAML that reads back equal, or refused by path (R4)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import yaml

from celery_cascade.definition.cascade import Source
from celery_cascade.definition.document import parse
from celery_cascade.definition.limits import MAX_DEPTH, MAX_DIGITS
from celery_cascade.errors import DefinitionError
from celery_cascade.words import shown


def yaml_of(mapping: Mapping[str, Any], max_size: int) -> str:
    """The YAML text of a mapping; `max_size` bounds how many values are looked at.

    Raises:
        DefinitionError: a value that YAML cannot give back equal, named by its path.
    """
    if not isinstance(mapping, Mapping):
        raise DefinitionError(f"a definition must be a mapping, not {type(mapping).__name__}")
    plain = _Copier(max_size).copy(mapping, "", 0)
    for dumper in (_Blocks, _Quoted):
        text: str = yaml.dump(plain, Dumper=dumper, sort_keys=False, allow_unicode=True, width=120)
        if _reads_back(text, plain):
            return text
    raise DefinitionError("the definition cannot be written as YAML that reads back equal")


class _Blocks(yaml.SafeDumper):
    """Not libyaml's: the same mapping gives the same bytes, so the same digest, on every machine.

    For people who look at what was stored: text of several lines as a block, no anchors for what appears twice.
    """

    def ignore_aliases(self, data: Any) -> bool:
        return True


class _Quoted(_Blocks):
    """For text that a block does not give back: every text in double quotes."""


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    style = "|" if "\n" in value else None
    if not value.replace("\n", "").isprintable():
        style = '"'  # tabs, and what YAML takes for the end of a line, are escaped only here
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


def _quoted(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style='"')


_Blocks.add_representer(str, _text)
_Quoted.add_representer(str, _quoted)


class _Copier:
    """Copies what JSON knows and refuses everything else."""

    def __init__(self, budget: int) -> None:
        self._left = budget

    def copy(self, value: Any, path: str, depth: int) -> Any:
        self._left -= len(value) + 1 if isinstance(value, str) else 1
        if self._left < 0:
            raise DefinitionError("the definition is larger than the limit, or holds itself")
        if depth > MAX_DEPTH:
            raise DefinitionError(f"{_at(path)} is nested deeper than {MAX_DEPTH} levels, or holds itself")
        if isinstance(value, Mapping):
            return {self._key(key, path): self.copy(item, f"{path}.{key}", depth + 1) for key, item in value.items()}
        if isinstance(value, list):
            return [self.copy(item, f"{path}[{index}]", depth + 1) for index, item in enumerate(value)]
        return _scalar(value, path)

    def _key(self, key: Any, path: str) -> str:
        if not isinstance(key, str):
            raise DefinitionError(f"{_at(path)} has the key {shown(key)}; keys must be text, write {shown(str(key))}")
        self._left -= len(key)
        return _plain_text(key, path)


def _scalar(value: Any, path: str) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _plain_text(value, path)
    if isinstance(value, int):
        return _plain_integer(int(value), path)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise DefinitionError(f"{_at(path)} is {value}, which JSON does not know; use null or text")
        return float(value)
    cure = "write a list" if isinstance(value, (tuple, set, frozenset)) else "write it as text or a number"
    raise DefinitionError(f"{_at(path)} is a {type(value).__name__}, which would not read back equal; {cure}")


def _plain_text(value: str, path: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise DefinitionError(f"{_at(path)} has a lone surrogate at character {error.start}") from error
    return str.__str__(value)


def _plain_integer(value: int, path: str) -> int:
    if value.bit_length() > 3 * MAX_DIGITS:  # a digit takes 3.3 bits
        raise DefinitionError(f"{_at(path)} is a number of more than 360 digits; write it as text")
    return value


def _reads_back(text: str, plain: Any) -> bool:
    try:
        back = parse(Source(body=text.encode(), format="inline")).root.plain()
    except DefinitionError:
        return False
    return _same(back, plain)


def _same(one: Any, other: Any) -> bool:
    """Equal in value, type and order: `1`, `1.0` and `True` are three things here, and so are 0.0 and -0.0."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return list(one) == list(other) and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return repr(one) == repr(other) if isinstance(one, float) else bool(one == other)


def _at(path: str) -> str:
    return path.lstrip(".") or "the definition"
