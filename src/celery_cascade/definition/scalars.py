"""What YAML 1.1 makes of a plain word, and which words read otherwise than they look (R147)."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

import yaml

from celery_cascade.definition.limits import MAX_DIGITS
from celery_cascade.definition.nodes import Value

if TYPE_CHECKING:
    from yaml.constructor import SafeConstructor

PREFIX = "tag:yaml.org,2002:"
_TRUTH = frozenset({"true", "false"})
_EXPONENT = re.compile(r"[-+]?\d+(?:\.\d+)?[eE][-+]?\d+", re.ASCII)
_NEW_OCTAL = re.compile(r"0o[0-7]+", re.ASCII)


def implicit_tag(loader: Any, word: str) -> str:
    """The short name of the type that YAML 1.1 gives a plain word; a time, `=` and `<<` are text here."""
    tag: str = loader.resolve(yaml.ScalarNode, word, (True, False)).removeprefix(PREFIX)
    return tag if tag in ("bool", "int", "float", "null") else "str"


def construct(loader: SafeConstructor, tag: str, word: str) -> Value:
    """The value of a word under a tag's short name.

    Raises:
        ValueError: the word does not fit the tag, or is a number that JSON does not know.
    """
    if tag in ("int", "float") and len(word) > MAX_DIGITS:
        raise ValueError(f"is a number of more than {MAX_DIGITS} characters; write it as text")
    node = yaml.ScalarNode(PREFIX + tag, word)
    try:
        value = _construct(loader, tag, node)
    except (ValueError, LookupError, OverflowError, yaml.YAMLError) as error:
        raise ValueError(f"cannot be read as {tag}") from error
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("is a number that JSON does not know; use null or text")
    return value


def _construct(loader: SafeConstructor, tag: str, node: yaml.ScalarNode) -> Value:
    match tag:
        case "null":
            return None
        case "bool":
            return bool(loader.construct_yaml_bool(node))
        case "int":
            return int(loader.construct_yaml_int(node))
        case "float":
            return float(loader.construct_yaml_float(node))
        case _:
            return str(node.value)


def doubt(tag: str, word: str, value: Value) -> str | None:
    """What to say about a plain word that reads otherwise than it looks, else None."""
    if tag == "bool" and word.lower() not in _TRUTH:
        return f'YAML reads {word} as {str(value).lower()}; write "{word}" in quotes if it is text'
    if tag in ("int", "float"):
        return _number_doubt(word, value)
    if tag == "str" and (_EXPONENT.fullmatch(word) or _NEW_OCTAL.fullmatch(word)):
        return f"YAML 1.1 reads {word} as text, not as a number; write the number out, or quote it"
    return None


def _number_doubt(word: str, value: Value) -> str | None:
    digits = word.lstrip("+-")
    if ":" in word:
        return f'YAML reads {word} as {value} (base 60); write "{word}" in quotes if it is a time or text'
    if "_" in word:
        return f'YAML reads {word} as {value}; write "{word}" in quotes if it is text'
    if len(digits) > 1 and digits.isdigit() and digits[0] == "0":
        return f'YAML reads {word} as {value} (octal); write "{word}" in quotes if it is text'
    return None
