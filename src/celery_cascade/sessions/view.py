"""A session as plain data: the `cascade/1` shape of `show --json`, the HTTP API and `Session.to_dict()`."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from celery_cascade.definition.plan import Plan
from celery_cascade.errors import StoreError
from celery_cascade.persistence.doubts import ANSWERED
from celery_cascade.persistence.rows import NO_ITEM, Row
from celery_cascade.sessions.checkpoints import checkpoints_in
from celery_cascade.states import FINAL_STEP, Halt, SessionStatus, StepStatus, SuspendReason, waits_its_turn

logger = logging.getLogger("celery_cascade")

SCHEMA = "cascade/1"
#: The task of a step of which none is recorded (R18).
UNKNOWN = "unknown"

#: Of a step that is queued again the row names whoever queued it.
_HAS_WORKER = FINAL_STEP | {StepStatus.RUNNING}
_ENDED_EARLY = frozenset({SessionStatus.FAILED, SessionStatus.CANCELLED, SessionStatus.EXPIRED})


def iso(moment: datetime | None) -> str | None:
    """ISO-8601 in UTC with a Z (R96)."""
    return None if moment is None else moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def plain(text: str | None, what: str = "a stored value") -> Any:
    """Stored JSON for people: what our codec wrote specially is shown as its JSON form.

    Args:
        text: as stored.
        what: whose it is, for the error.

    Raises:
        StoreError: it is not JSON; somebody else wrote it, or it was damaged.
    """
    try:
        return None if text is None else json.loads(text)
    except (ValueError, RecursionError) as error:
        raise StoreError(f"{what} cannot be read: {error}", hint="Look at it with: cascade doctor") from error


def can_resume(row: Row, now: datetime) -> bool:
    """Whether `resume` would set the session going again."""
    if row["expires_at"] is not None and row["expires_at"] <= now:
        return False
    if waits_its_turn(row["status"], row["status_reason"], row["started_at"]):
        return False  # it begins by itself; until then a resume is refused
    return row["status"] in (SessionStatus.SUSPENDED, SessionStatus.FAILED)


def reason_of(row: Row) -> str | None:
    """Why it stands where it stands; of one that is on its way to an end, which, whoever asked for it."""
    halt, why = row["halt"], row["status_reason"]
    if halt is None or why in ANSWERED:
        told: str | None = why
        return told
    return f"{halt} requested" + (f": {why}" if why and why != SuspendReason.OPERATOR else "")


def summary(row: Row, now: datetime) -> dict[str, Any]:
    """A session without payloads: what lists show."""
    total = row["total_steps"]
    # A session that ended early has no open steps either: what was cancelled or failed is not done. So it is of one
    # that is about to fail.
    early = row["status"] in _ENDED_EARLY or row["halt"] == Halt.FAILED
    done = (row["current_step"] or 0) if early else total - row["open_steps"]
    return {
        "session_id": row["session_id"],
        "cascade_id": row["cascade_id"],
        "name": row["name"],
        "status": row["status"],
        "reason": reason_of(row),
        "mode": row["mode"],
        "current_phase": row["current_phase"],
        "current_step": row["current_step"],
        "progress": {"done": done, "total": total, "percent": round(100 * done / total) if total else 100},
        "can_resume": can_resume(row, now),
        "kept": bool(row["pinned"]),
        "version": row["version"],
        "thread_id": row["thread_id"],
        "resource_id": row["resource_id"],
        "tags": _tags(row),
        "trigger": row["trigger"],
        "forked_from": row["forked_from"],
        "forked_step": row["forked_step"],
        "continues": row["continues"],
        "created_at": iso(row["created_at"]),
        "started_at": iso(row["started_at"]),
        "updated_at": iso(row["updated_at"]),
        "finished_at": iso(row["finished_at"]),
        "expires_at": iso(row["expires_at"]),
    }


def _tags(row: Row) -> list[str]:
    """Lists show them, and one that cannot be read must not hide the other sessions."""
    try:
        return list(plain(row["tags"]) or [])
    except (StoreError, TypeError) as error:
        logger.warning("session %s: its tags are left out: %s", row["session_id"], error)
        return []


def whole(
    row: Row,
    steps: list[Row],
    plan: Plan | None,
    now: datetime,
    actions: Sequence[Row] = (),
    attempts: Sequence[Row] = (),
) -> dict[str, Any]:
    """A session with everything: the object under `session` in `show --json`.

    Args:
        row, steps, actions, attempts: of the session, as the store has them.
        plan: of its definition; None = it has none.
        now: by the store's clock.

    Raises:
        StoreError: a stored value cannot be read; names session and step.
    """
    owner = f"session {row['session_id']}"
    phases = {} if plan is None else {step.id: step.phase for step in plan.steps.values()}
    shown = [_step(step, owner, phases.get(step["step"])) for step in _in_order(steps, plan)]
    done = [step for step in steps if step["status"] == StepStatus.SUCCEEDED]
    found = summary(row, now)
    return {
        **found,
        "completed_steps": [step["step"] for step in sorted(done, key=lambda s: s["version"])],
        "inputs": plain(row["input_data"], f"{owner}: its inputs"),
        "output": plain(row["output"], f"{owner}: its output"),
        "error": plain(row["error"], f"{owner}: its error"),
        "definition_sha256": row["definition_digest"],
        "config_path": row["config_path"],
        "parent_session_id": row["parent_session_id"],
        "depth": row["depth"],
        "checkpoints": [
            {"checkpoint": one.name(row["session_id"]), "number": one.number, "step": one.step}
            for one in checkpoints_in(steps)
        ],
        "steps": shown,
        "waits_for": [_doubt(step, attempts) for step in shown if waits(step)],
        "actions": [_action(action) for action in actions],
    }


def attempt(row: Row) -> dict[str, Any]:
    """An attempt that did not succeed, without its traceback."""
    what = f"session {row['session_id']}: attempt {row['attempt']} of step {row['step']!r}: its error"
    return {
        "step": row["step"],
        "item": None if row["item"] == NO_ITEM else row["item"],
        "attempt": row["attempt"],
        "kind": row["kind"],
        "worker": row["nodename"],
        "started_at": iso(row["started_at"]),
        "finished_at": iso(row["finished_at"]),
        "error": plain(row["error"], what),
        "version": row["version"],
    }


def message(row: Row) -> dict[str, Any]:
    """A message of a conversation, as it was said."""
    what = f"session {row['session_id']}: message {row['seq']}"
    extra = plain(row["extra"], what)
    said = {"role": row["role"], "content": plain(row["content"], what)}
    return said | {key: value for key, value in (extra or {}).items() if key not in said}


def waits(step: Mapping[str, Any]) -> bool:
    """Whether a step waits for an operator's answer (`resume --done`, `--again`, `--skip`)."""
    return step["status"] == StepStatus.PENDING and step["reason"] in ANSWERED


def _doubt(step: Mapping[str, Any], attempts: Sequence[Row]) -> dict[str, Any]:
    """What is known of the attempt that lost its worker."""
    attempt = step["attempt"] - 1
    item = NO_ITEM if step["item"] is None else step["item"]
    lost = [row for row in attempts if (row["step"], row["item"], row["attempt"]) == (step["step"], item, attempt)]
    return {
        "step": step["step"],
        "item": step["item"],
        "reason": step["reason"],
        "attempt": attempt,
        "crashes": step["crashes"],
        "worker": step["worker"],
        "began_at": step["started_at"],
        "lost_at": iso(lost[0]["finished_at"]) if lost else None,
        "error": step["error"],
    }


def _action(row: Row) -> dict[str, Any]:
    """What somebody did to the session, who and why."""
    return {
        "action": row["action"],
        "actor": row["actor"],
        "reason": row["reason"],
        "at": iso(row["done_at"]),
        "detail": plain(row["detail"], "what an action did"),
        "version": row["version"],
    }


def _in_order(steps: list[Row], plan: Plan | None) -> list[Mapping[str, Any]]:
    """The steps in the order of the file; those without a row yet are pending."""
    if plan is None:
        return list(steps)
    by_step: dict[str, list[Mapping[str, Any]]] = {}
    for row in steps:
        by_step.setdefault(row["step"], []).append(row)
    ordered: list[Mapping[str, Any]] = []
    for step in plan.steps.values():
        ordered += sorted(by_step.get(step.id, []), key=lambda row: row["item"]) or [_pending(step.id, step.task)]
    return ordered


def _pending(step: str, task: str) -> dict[str, Any]:
    return {"step": step, "item": NO_ITEM, "status": "pending", "task": task, "attempt": 0, "crashes": 0}


def _step(row: Mapping[str, Any], owner: str, phase: str | None) -> dict[str, Any]:
    what = f"{owner}: step {row['step']!r}: its"
    ran = row.get("started_at") is not None
    return {
        "step": row["step"],
        "item": None if row["item"] == NO_ITEM else row["item"],
        "status": row["status"],
        "reason": None if row["status"] == StepStatus.RUNNING else row.get("reason"),  # of a running one: `on_crash`
        "phase": phase,
        "attempt": row["attempt"] if ran or row["attempt"] > 1 else 0,
        "crashes": row["crashes"],
        "task": row["task"] or UNKNOWN,
        "worker": row.get("nodename") if ran and (row["status"] in _HAS_WORKER or waits(row)) else None,
        "started_at": iso(row.get("started_at")),
        "finished_at": iso(row.get("finished_at")),
        "output": plain(row.get("output"), f"{what} output"),
        "error": plain(row.get("error"), f"{what} error"),
    }
