"""The inputs of a run as the command line gives them: `-i key=value` and `--inputs FILE`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NoReturn

from celery_cascade.definition.cascade import Cascade
from celery_cascade.errors import InputError, UsageError


def inputs_of(cascade: Cascade, pairs: Iterable[str], file: str | None) -> dict[str, Any]:
    """The inputs; a pair wins over the file.

    Args:
        pairs: `key=value`: the value is JSON where it is some, else text. For an input that is declared as a
            string it is the text as it stands, so that `-i zip=01234` and `-i code=7` keep their characters.
        file: a JSON object; `-` = stdin.
    """
    found = {} if file is None else _from_file(file)
    for key, text in _split(pairs, "-i", "such as -i order_id=7").items():
        found[key] = text if _is_text(cascade, key) else _value(text)
    return found


def pairs_of(pairs: Iterable[str], option: str) -> dict[str, Any]:
    """`key=value` several times: values are JSON where they are some, else text."""
    return {key: _value(text) for key, text in _split(pairs, option, f"such as {option} n=7").items()}


def _split(pairs: Iterable[str], option: str, such_as: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals or not key:
            raise UsageError(f"{option} {pair!r} has no value", hint=f"Write it as {option} key=value, {such_as}")
        if key in found:
            raise UsageError(f"{option} {key}=… is given twice", hint="Give each of them once")
        found[key] = text
    return found


def _is_text(cascade: Cascade, key: str) -> bool:
    declared = (cascade.inputs or {}).get(key, {})
    return declared.get("type") in ("string", ["string"])


def _value(text: str) -> Any:
    try:
        return json.loads(text, parse_constant=_no_number)
    except (ValueError, RecursionError):
        return text


def _no_number(word: str) -> NoReturn:
    raise ValueError(f"{word} is no JSON")  # Python would take NaN and Infinity


def _from_file(file: str) -> dict[str, Any]:
    name = "stdin" if file == "-" else file
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--inputs {file}: cannot be read: {error}") from error
    try:
        found = json.loads(text, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"the inputs in {name} are not JSON: {error}", hint='Write an object, such as {"order_id": 7}'
        ) from error
    if not isinstance(found, dict):
        raise InputError(f"the inputs in {name} are no JSON object", hint='Write one, such as {"order_id": 7}')
    return found
