"""The inputs of a start against what the cascade declares."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError, best_match

from celery_cascade.definition.cascade import Cascade
from celery_cascade.errors import InputError
from celery_cascade.redaction import Keys, secrets_in
from celery_cascade.words import shown, suggestion, type_name

_NONE = Keys(())


def check_inputs(cascade: Cascade, given: Mapping[str, Any], keys: Keys = _NONE) -> dict[str, Any]:
    """The inputs with defaults filled in.

    Args:
        cascade: what is started; without an `inputs:` of its own it takes anything.
        given: what the caller gave.
        keys: under which stands what no message says.

    Raises:
        InputError: an input is missing, not declared, or not of the declared type; names input, path, expected
            type and the value's type.
    """
    _check_shape(cascade, given)
    if cascade.inputs is None:
        return dict(given)
    for name in given:
        if name not in cascade.inputs:
            hint = suggestion(name, cascade.inputs, else_list="declared are") if cascade.inputs else "; it takes none"
            raise InputError(f"cascade {cascade.id!r} has no input {shown(name)}{hint}")
    return {name: _one(cascade, name, schema, given, keys) for name, schema in cascade.inputs.items()}


def _check_shape(cascade: Cascade, given: object) -> None:
    if not isinstance(given, Mapping):
        raise InputError(f"the inputs of cascade {cascade.id!r} must be a mapping, not {type_name(given)}")
    for name in given:
        if not isinstance(name, str):
            raise InputError(f"the names of inputs must be text; {shown(name)} is not")


def _one(cascade: Cascade, name: str, schema: Mapping[str, Any], given: Mapping[str, Any], keys: Keys) -> Any:
    if name not in given:
        if "default" not in schema:
            expected = f" ({_words(schema['type'])})" if "type" in schema else ""
            raise InputError(f"cascade {cascade.id!r} needs the input {shown(name)}{expected}, and none was given")
        return copy.deepcopy(schema["default"])
    validator = Draft202012Validator(schema)
    try:
        problem = best_match(validator.iter_errors(given[name]))
    except RecursionError as error:
        raise InputError(f"input {shown(name)} of cascade {cascade.id!r} is nested too deeply") from error
    if problem is not None:
        raise InputError(f"cascade {cascade.id!r}: {_told(name, problem, keys)}")
    return given[name]


def _told(name: str, problem: ValidationError, keys: Keys) -> str:
    """Input, path, what was expected and what was given."""
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in problem.absolute_path)
    where = f"input {shown(name + path)}"
    value = problem.instance
    if any(keys.match(part) for part in (name, *problem.absolute_path)) or secrets_in(value, keys):
        wanted = (
            f"be {_words(problem.validator_value)}" if problem.validator == "type" else f"fit {problem.validator!r}"
        )
        return f"{where} must {wanted}; its value is secret"
    if problem.validator == "type":
        return f"{where} must be {_words(problem.validator_value)}, not {type_name(value)} ({shown(value)})"
    if problem.validator == "enum":
        return f"{where} must be one of {shown(problem.validator_value, quote=False)}, not {shown(value)}"
    return f"{where}: {shown(problem.message, quote=False)}"


def _words(types: Any) -> str:
    return " or ".join(types) if isinstance(types, list) else str(types)
