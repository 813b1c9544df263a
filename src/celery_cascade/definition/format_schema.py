"""The file format as a JSON Schema (draft 2020-12), for editors and for other programs.

Its keys are the reader's own tables, so that the two cannot drift. What it cannot say stays with `validate`: needs and
templates that name no step, circles, ids that appear twice.
"""

from __future__ import annotations

from typing import Any

from celery_cascade.definition import durations, retries, schemas
from celery_cascade.definition.limits import MAX_STEPS
from celery_cascade.definition.reader import EDITORS_KEY, ROOT_KEYS, STEP_LISTS
from celery_cascade.definition.steps import DEFAULT_KEYS, ON_CRASH, STEP_KEYS

ID = "urn:celery-cascade:cascade-file:1"
META = "https://json-schema.org/draft/2020-12/schema"

_NAME = r"^(?!.*(\{\{|\{%))\S(.*\S)?$"
_TEMPLATE = r"^\s*\{\{[\s\S]*\}\}\s*$"
_DURATION = r"^(\d{1,15}(\.\d{1,15})?(ms|s|m|h|d|w))+$"

Schema = dict[str, Any]


def format_schema() -> Schema:
    """The schema of a cascade file."""
    known = _root()
    steps = {"$ref": "#/$defs/steps"}
    return {
        "$schema": META,
        "$id": ID,
        "title": "Cascade",
        "description": "A cascade of celery-cascade: which tasks run, in which order, with which arguments.",
        "type": "object",
        "properties": {key: steps if key in STEP_LISTS else known[key] for key in ROOT_KEYS},
        "required": ["cascade"],
        "oneOf": [{"required": [key]} for key in STEP_LISTS],
        "additionalProperties": False,
        "$defs": {
            "steps": {
                "description": "The steps. A step needs the one before it, unless its `needs` say otherwise.",
                "type": "array",
                "minItems": 1,
                "maxItems": MAX_STEPS,
                "items": {"$ref": "#/$defs/step"},
            },
            "step": _step(),
            "input": _input(),
            "retry": _retry(),
            "duration": _duration(),
            "template": {"type": "string", "pattern": _TEMPLATE},
        },
    }


def _root() -> dict[str, Schema]:
    return {
        EDITORS_KEY: {"description": "Where this schema is, for editors.", "type": "string", "maxLength": 10_000},
        "cascade": _name("The id of this cascade; runs are listed under it.", 255),
        "description": _text("For people; shown in lists."),
        "inputs": {
            "description": "What a run is given: a JSON Schema for each input, or its bare type. With a default it is "
            "optional. Without `inputs` a cascade takes anything.",
            "type": "object",
            "propertyNames": {"minLength": 1, "maxLength": 255},
            "additionalProperties": {"anyOf": [{"enum": [*schemas.TYPES, None]}, {"$ref": "#/$defs/input"}]},
            "examples": [{"order_id": "integer", "email": {"type": "string", "default": ""}}],
        },
        "defaults": {
            "description": "For every step that does not say otherwise; `retry` is merged key by key.",
            "type": "object",
            "properties": {key: _common()[key] for key in DEFAULT_KEYS},
            "additionalProperties": False,
        },
        "output": {
            "description": "What the run gives, of templates over any step's output. Without it: the last step's "
            "output, or a mapping of them if several are last.",
            "examples": ["{{ outputs.ship }}", {"parcel": "{{ outputs.pick }}"}],
        },
    }


def _input() -> Schema:
    """Not a reference to the draft's own schema: an editor would have to fetch that."""
    one = {"enum": list(schemas.TYPES)}
    return {
        "description": "A JSON Schema (draft 2020-12), without references. With `default` the input is optional.",
        "type": "object",
        "properties": {
            "type": {"anyOf": [one, {"type": "array", "items": one, "minItems": 1, "uniqueItems": True}]},
            "description": {"type": "string"},
            "default": {"description": "What a run gets that is not given this input; it must fit."},
            "enum": {"description": "The values there are.", "type": "array"},
            "properties": {"type": "object"},
            "required": {"type": "array", "items": {"type": "string"}},
        },
        "propertyNames": {"not": {"enum": list(schemas.REFERENCES)}},
    }


def _step() -> Schema:
    known = _common() | {
        "id": {
            "description": "Unique in this file; templates name its output as outputs.ID.",
            "type": "string",
            "pattern": "^[A-Za-z_][A-Za-z0-9_-]{0,49}$",
        },
        "task": _name("The registered name of a Celery task: `cascade doctor --tasks` lists them.", 255),
        "with": {
            "description": "Arguments of the task: a mapping gives keyword arguments, a list positional ones. Values "
            'may be templates, such as "{{ outputs.charge.lines }}".',
            "type": ["object", "array"],
        },
        "needs": {
            "description": "Ids of the steps that must have ended first. Without it: the step before; []: none.",
            "anyOf": [_step_id(), {"type": "array", "items": _step_id(), "uniqueItems": True}],
        },
        "when": {
            "description": 'Exactly one "{{ expression }}", or true or false. Where it is false the step is skipped.',
            "anyOf": [{"type": "boolean"}, {"$ref": "#/$defs/template"}],
        },
        "phase": _name("A label that `cascade show` has for this step; without it: the id.", 50),
        "description": _text("For people."),
    }
    return {
        "description": "One unit of work: a Celery task and how to call it.",
        "type": "object",
        "properties": {key: known[key] for key in STEP_KEYS},
        "required": ["id", "task"],
        "additionalProperties": False,
    }


def _common() -> dict[str, Schema]:
    """What a step and `defaults` may both say; null takes a default away."""
    return {
        "retry": {"$ref": "#/$defs/retry"},
        "timeout": {
            "description": "Longest time of one attempt: 500ms, 30s, 5m, 1h30m, 2d, or seconds. Without it: no limit.",
            "anyOf": [_duration(zero=False), {"type": "null"}],
        },
        "queue": {
            "description": "The Celery queue. Without it: where the task is routed.",
            "anyOf": [_name("", 255), {"type": "null"}],
        },
        "priority": {
            "description": "The Celery priority of its messages.",
            "type": ["integer", "null"],
            "minimum": 0,
            "maximum": 255,
        },
        "on_crash": {
            "description": "When a worker dies in the middle of the step, which may then have done its work or not. "
            "retry: it runs again; fail: it has failed; ask: the run waits until somebody says what became of it.",
            "enum": list(ON_CRASH),
            "default": "retry",
        },
    }


def _retry() -> Schema:
    attempts = {"type": "integer", "minimum": 1, "maximum": retries.MOST_ATTEMPTS}
    error = {"type": "string", "pattern": r"^[^\W\d]\w*(\.[^\W\d]\w*)*$", "maxLength": 255}
    known: dict[str, Schema] = {
        "max_attempts": {"description": "Failures allowed in all; 1 = never try again.", "default": 1, **attempts},
        "backoff": {
            "description": "none: always `delay`; linear: n times it; exponential: twice as long each time.",
            "enum": list(retries.BACKOFFS),
            "default": "exponential",
        },
        "delay": {"description": "Before the second attempt.", "default": "1s", "$ref": "#/$defs/duration"},
        "max_delay": {"description": "No wait is longer.", "default": "1h", "$ref": "#/$defs/duration"},
        "errors": {
            "description": "Only after these exceptions: class names, short or qualified; base classes count. Without "
            "it: after every one.",
            "anyOf": [error, {"type": "array", "items": error}],
        },
    }
    return {
        "description": "When a failed attempt is tried again; a number alone is max_attempts. A crash of the worker "
        "does not count.",
        "anyOf": [
            attempts,
            {"type": "object", "properties": {key: known[key] for key in retries.KEYS}, "additionalProperties": False},
        ],
    }


def _duration(*, zero: bool = True) -> Schema:
    bounds = {"minimum" if zero else "exclusiveMinimum": 0, "maximum": durations.LONGEST}
    return {"anyOf": [{"type": "string", "pattern": _DURATION}, {"type": "number", **bounds}]}


def _name(description: str, longest: int) -> Schema:
    found: Schema = {"type": "string", "minLength": 1, "maxLength": longest, "pattern": _NAME}
    return {"description": description, **found} if description else found


def _text(description: str) -> Schema:
    return {"description": description, "type": "string", "maxLength": 100_000}


def _step_id() -> Schema:
    return {"type": "string", "minLength": 1}
