"""What `show --json` says about sessions, put together by SQL alone: nothing of ours is imported here.

Run as: by_sql.py URL SESSION_ID…; prints one JSON object a session. It is also an example for people who have to read a
store without the application.
"""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from urllib.parse import unquote, urlsplit

import yaml

SESSIONS = """
SELECT s.session_id, s.cascade_id, s.name, s.thread_id, s.resource_id, s.tags, s.created_at, s.input_data,
       s.config_path, s.trigger, s.forked_from, s.forked_step, s.continues, s.parent_session_id, s.depth,
       s.definition_digest, h.status, h.status_reason, h.halt,
       h.mode, h.current_phase, h.current_step, h.total_steps, h.open_steps, h.version, h.pinned, h.started_at,
       h.updated_at, h.finished_at, h.expires_at, h.output, h.error, f.cascade_definition
FROM cascade_sessions s
JOIN session_states h ON h.session_id = s.session_id
JOIN cascade_sessions_full f ON f.session_id = s.session_id
WHERE s.session_id = ?
"""
STEPS = """
SELECT p.step, p.item, p.status, p.reason, p.attempt, p.crashes, p.task, w.nodename, p.started_at, p.finished_at,
       p.output, p.error, p.version
FROM session_steps p LEFT JOIN cascade_workers w ON w.id = p.worker
WHERE p.session_id = ?
ORDER BY p.step, p.item
"""
ACTIONS = """
SELECT action, actor, reason, done_at, version, detail FROM session_actions WHERE session_id = ?
AND action NOT IN ('suspended', 'failed', 'cancelled', 'expired', 'completed', 'parked', 'resumed', 'mended')
ORDER BY version
"""

ATTEMPTS = """
SELECT step, attempt, finished_at FROM step_attempts WHERE session_id = ? ORDER BY step, attempt
"""


def connect(url):
    parts = urlsplit(url)
    name = unquote(parts.path.lstrip("/"))
    if parts.scheme.startswith("sqlite"):
        import sqlite3

        return sqlite3.connect("/" + name)
    login = {"host": parts.hostname, "user": parts.username, "password": parts.password or ""}
    if parts.scheme.startswith("postgresql"):
        import psycopg

        return psycopg.connect(**login, port=parts.port or 5432, dbname=name)
    import pymysql

    return pymysql.connect(**login, port=parts.port or 3306, database=name, charset="utf8mb4")


def rows(connection, statement, session_id):
    if not type(connection).__module__.startswith("sqlite3"):
        statement = statement.replace("?", "%s")
    cursor = connection.cursor()
    cursor.execute(statement, (session_id,))
    names = [column[0] for column in cursor.description]
    found = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
    cursor.close()
    return found


def iso(moment):
    """Times are UTC in every database; SQLite has them as text, MySQL without a zone."""
    if moment is None:
        return None
    if isinstance(moment, str):
        moment = datetime.fromisoformat(moment)
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    return moment.isoformat().replace("+00:00", "Z")


def parsed(text):
    return None if text is None else json.loads(text)


def one_step(row, written):
    ran, doubt = row["started_at"] is not None, row["reason"] in ("in_doubt", "poisoned")
    return {
        "step": row["step"],
        "item": None if row["item"] == -1 else row["item"],
        "status": row["status"],
        "reason": row["reason"],
        "phase": written.get("phase"),
        "attempt": row["attempt"] if ran or row["attempt"] > 1 else 0,
        "crashes": row["crashes"],
        "task": row["task"],
        "worker": row["nodename"] if ran and (row["finished_at"] or row["status"] == "running" or doubt) else None,
        "started_at": iso(row["started_at"]),
        "finished_at": iso(row["finished_at"]),
        "output": parsed(row["output"]),
        "error": parsed(row["error"]),
    }


def needs_answer(step):
    return step["status"] == "pending" and step["reason"] in ("in_doubt", "poisoned")


def one_doubt(step, lost):
    """A step that an operator has to answer for; its row is one attempt ahead of the one that lost its worker."""
    attempt = step["attempt"] - 1
    kept = {name: step[name] for name in ("step", "item", "reason", "crashes", "worker", "error")}
    times = {"began_at": step["started_at"], "lost_at": iso(lost[step["step"], attempt])}
    return kept | times | {"attempt": attempt}


def not_there_yet(written):
    """A step without a row is pending: the definition knows it."""
    nothing = dict.fromkeys(("item", "reason", "worker", "started_at", "finished_at", "output", "error"))
    known = {"step": written["id"], "phase": written.get("phase"), "task": written["task"]}
    return known | {"status": "pending", "attempt": 0, "crashes": 0} | nothing


def session(connection, session_id):
    (row,) = rows(connection, SESSIONS, session_id)
    steps = rows(connection, STEPS, session_id)
    order = yaml.safe_load(row["cascade_definition"])["steps"]
    of_step = {written["id"]: [step for step in steps if step["step"] == written["id"]] for written in order}
    shown = []
    for written in order:
        shown += [one_step(step, written) for step in of_step[written["id"]]] or [not_there_yet(written)]
    lost = {(row["step"], row["attempt"]): row["finished_at"] for row in rows(connection, ATTEMPTS, session_id)}
    total = row["total_steps"]
    early = row["status"] in ("failed", "cancelled", "expired") or row["halt"] == "failed"
    reason, turn = row["status_reason"], row["status_reason"] == "signal" and row["started_at"] is None
    if row["halt"] and reason not in ("in_doubt", "poisoned"):
        reason = f"{row['halt']} requested" + (f": {reason}" if reason not in (None, "operator") else "")
    done = (row["current_step"] or 0) if early else total - row["open_steps"]
    passed = row["expires_at"] is not None and iso(row["expires_at"]) <= iso(datetime.now(UTC))
    ended = sorted(steps, key=lambda step: step["version"])
    checkpoints = sorted(
        (step["version"], step["step"])
        for step in steps
        if step["status"] in ("succeeded", "skipped") and step["started_at"] is not None
    )
    return {
        "session_id": row["session_id"],
        "cascade_id": row["cascade_id"],
        "name": row["name"],
        "status": row["status"],
        "reason": reason,
        "mode": row["mode"],
        "current_phase": row["current_phase"],
        "current_step": row["current_step"],
        "progress": {"done": done, "total": total, "percent": round(100 * done / total) if total else 100},
        "can_resume": not passed and not turn and row["status"] in ("suspended", "failed"),
        "kept": bool(row["pinned"]),
        "version": row["version"],
        "thread_id": row["thread_id"],
        "resource_id": row["resource_id"],
        "tags": parsed(row["tags"]) or [],
        "created_at": iso(row["created_at"]),
        "started_at": iso(row["started_at"]),
        "updated_at": iso(row["updated_at"]),
        "finished_at": iso(row["finished_at"]),
        "expires_at": iso(row["expires_at"]),
        "completed_steps": [step["step"] for step in ended if step["status"] == "succeeded"],
        "inputs": parsed(row["input_data"]),
        "output": parsed(row["output"]),
        "error": parsed(row["error"]),
        "definition_sha256": row["definition_digest"],
        "config_path": row["config_path"],
        "trigger": row["trigger"],
        "forked_from": row["forked_from"],
        "forked_step": row["forked_step"],
        "continues": row["continues"],
        "parent_session_id": row["parent_session_id"],
        "depth": row["depth"],
        "checkpoints": [
            {"checkpoint": f"{row['session_id']}_ckpt_{version}", "number": version, "step": step}
            for version, step in checkpoints
        ],
        "steps": shown,
        "waits_for": [one_doubt(step, lost) for step in shown if needs_answer(step)],
        "actions": [
            {name: action[name] for name in ("action", "actor", "reason", "version")}
            | {"at": iso(action["done_at"]), "detail": parsed(action["detail"])}
            for action in rows(connection, ACTIONS, session_id)
        ],
    }


def main():
    connection = connect(sys.argv[1])
    for session_id in sys.argv[2:]:
        print(json.dumps(session(connection, session_id)))
    connection.close()
    assert "celery_cascade" not in sys.modules
    assert "sqlalchemy" not in sys.modules


if __name__ == "__main__":
    main()
