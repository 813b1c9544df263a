"""The options of Celery's `apply_async` in a durable send: kept, of no meaning there, or refused by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from celery_cascade.errors import DefinitionError
from celery_cascade.words import suggestion

#: Kept in the definition, and given to each message of the step.
KEPT = frozenset({"queue", "routing_key", "exchange", "priority", "time_limit", "soft_time_limit"})

NUMBERS = frozenset({"priority", "time_limit", "soft_time_limit"})

#: How one message would be sent, or answered. Ours is sent as often as it must be, and the answer is in SQL.
WITHOUT_MEANING = frozenset(
    [
        "task_id",
        "producer",
        "publisher",
        "connection",
        "retry",
        "retry_policy",
        "serializer",
        "compression",
        "ignore_result",
        "add_to_parent",
        "route_name",
        "reply_to",
        "router",
        "result_cls",
        "shadow",
        "delivery_mode",
        "mandatory",
        "immediate",
        "task_type",
        "durable",
        "chord_size",
        "replaced_task_nesting",
    ]
)

_WHY = {
    "countdown": "a start in the future is not there yet",
    "eta": "a start in the future is not there yet",
    "expires": "it would expire one message; a session takes expires_in: cascades.start(signature, expires_in=60)",
    "link": "write it as the next task of a chain",
    "link_error": "connect to the signal celery_cascade.events.session_failed",
    "stamped_headers": "stamps are not there yet",
}


def read(task: str, options: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What of the options is kept with the step, and the message's own headers.

    Raises:
        DefinitionError: an option that would be lost, by name.
    """
    kept: dict[str, Any] = {}
    headers: dict[str, Any] = {}
    for name, value in options.items():
        if value is None or value in ((), [], {}) or name in WITHOUT_MEANING:
            continue
        if name == "headers":
            headers = dict(value)
        elif name in KEPT:
            kept[name] = _checked(task, name, value)
        else:
            raise DefinitionError(
                f"task {task!r}: a durable send does not take {name}: {_WHY.get(name, 'it would be lost')}"
                f"{suggestion(name, KEPT | WITHOUT_MEANING) if name not in _WHY else ''}",
                hint="Leave it out, or send a plain message: .apply_async(..., durable=False)",
            )
    return dict(sorted(kept.items())), headers


def _checked(task: str, name: str, value: Any) -> Any:
    """As JSON has it: a kombu Queue or Exchange by its name."""
    if name in NUMBERS:
        if not isinstance(value, bool) and isinstance(value, int if name == "priority" else (int, float)):
            return value
        raise DefinitionError(f"task {task!r}: {name} is {value!r}; it must be a number")
    named = value if isinstance(value, str) else getattr(value, "name", None)
    if not isinstance(named, str) or not named:
        raise DefinitionError(f"task {task!r}: {name} is {value!r}; it must be a name")
    return named
