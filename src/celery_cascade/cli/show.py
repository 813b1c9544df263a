"""`cascade show`: one session with its steps, and the attempts that did not succeed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import click

from celery_cascade.cli.answering import doubts
from celery_cascade.cli.caller import Caller
from celery_cascade.cli.follow import setback
from celery_cascade.cli.ids import session_id
from celery_cascade.cli.lacking import Lacking
from celery_cascade.cli.living import Attendance, nobody
from celery_cascade.cli.options import Verb, id_argument, json_option
from celery_cascade.cli.problems import as_called
from celery_cascade.cli.tables import table
from celery_cascade.cli.words import (
    counted,
    is_json,
    local,
    out,
    out_json,
    painted,
    preview,
    printable,
    say,
    took,
    why,
)
from celery_cascade.persistence.rows import NO_ITEM
from celery_cascade.sessions.hiding import Hiding, hiding_of
from celery_cascade.sessions.session import Session
from celery_cascade.states import SessionStatus, waits_its_turn
from celery_cascade.tasks.runtime import Runtime

_HEADINGS = ("STEP", "STATUS", "ATTEMPT", "CRASHES", "WORKER", "TOOK", "OUTPUT")
_PHASE = "PHASE"  #: the second column, where a step has one


@click.command(cls=Verb, example=("celery -A proj cascade show @last", "celery -A proj cascade show 3f2a91 --json"))
@id_argument
@click.option("--traceback", is_flag=True, help="With the tracebacks of the attempts that failed.")
@json_option
def show(session: str, traceback: bool, as_json: bool) -> None:
    """Show one session: its steps, outputs, errors, and the attempts that did not succeed.

    Long values are cut here; --json has them whole.
    """
    runtime = Caller.here().runtime
    found = Session(runtime, session_id(runtime.store, session))
    whole = _with_reasons(runtime, found.to_dict())
    if is_json(click.get_current_context()):
        out_json({"session": whole})
        return
    if "warning" in whole:
        say(f"Warning: {whole['warning']}")
    for name, value in _summary(runtime, whole):
        out(f"{name:<10}{value}")
    out("")
    _steps(whole["steps"])
    _attempts(found, traceback, hiding_of(runtime, found.id))
    _actions(whole["actions"])
    if whole["waits_for"]:
        out("\nWaits for an answer:")
        for line in doubts(found.id, whole["waits_for"]):
            out(as_called(line))
    elif whole["can_resume"]:
        out("")
        out(as_called(f"Go on from the last checkpoint with: cascade resume {found.id}"))


def _with_reasons(runtime: Runtime, whole: dict[str, Any]) -> dict[str, Any]:
    """What an active session and its queued steps wait for, as the living workers' rows say at this moment."""
    if whole["status"] == SessionStatus.ACTIVE:
        lacking = Lacking(runtime, [whole["session_id"]])
        whole["reason"] = whole["reason"] or lacking.of_session(whole["session_id"])
        for step in whole["steps"]:
            step["reason"] = lacking.of_step(whole["session_id"], step) or step["reason"]
    return whole


def _summary(runtime: Runtime, whole: dict[str, Any]) -> list[tuple[str, str]]:
    reason = whole["reason"] or nobody(Attendance(runtime), whole)
    progress = whole["progress"]
    lines = [
        ("Session", whole["session_id"] + (f" ({printable(whole['name'])})" if whole["name"] else "")),
        ("Cascade", printable(f"{whole['cascade_id']} from {whole['config_path'] or 'a definition in Python'}")),
        *_origin(whole),
        ("Status", painted(whole["status"]) + (f", {printable(reason)}" if reason else "")),
        ("Progress", f"{progress['done']} of {progress['total']} steps ({progress['percent']} %)"),
        ("Saved", _saved(whole["checkpoints"])),
        ("Phase", printable(whole["current_phase"] or "-")),
        ("Started", local(whole["started_at"] or whole["created_at"])),
        ("Finished", local(whole["finished_at"]) + _span(whole["started_at"], whole["finished_at"], " (took {})")),
        ("Inputs", preview(whole["inputs"])),
    ]
    for name, value in (("Tags", whole["tags"]), ("Output", whole["output"])):
        if value:
            lines.append((name, preview(value)))
    lines += _thread(whole)
    if whole["expires_at"]:
        lines.append(("Expires", local(whole["expires_at"])))
    if whole["kept"]:
        lines.append(("Kept", as_called(f"no prune deletes it; undo with: cascade keep --undo {whole['session_id']}")))
    if whole["error"]:
        lines.append(("Error", why(whole["error"])))
    return lines


def _origin(whole: dict[str, Any]) -> list[tuple[str, str]]:
    """What it was forked from, continues or waits for, where it was."""
    if whole["forked_from"] is not None:
        word = "Rerun of" if whole["trigger"] == "rerun" else "Fork of"
        at = f" at {printable(whole['forked_step'])}" if whole["forked_step"] else ""
        return [(word, f"{whole['forked_from']}{at}")]
    if whole["continues"] is None:
        return []
    if waits_its_turn(whole["status"], whole["reason"], whole["started_at"]):
        return [("Waits", f"for its turn in the thread, after session {whole['continues']}")]
    return [("Continues", whole["continues"])]


def _thread(whole: dict[str, Any]) -> list[tuple[str, str]]:
    """Its conversation, and whose it is."""
    if whole["thread_id"]:
        return [("Thread", printable(f"{whole['thread_id']} of {whole['resource_id']}"))]
    return [("Resource", printable(whole["resource_id"]))] if whole["resource_id"] else []


def _saved(checkpoints: list[dict[str, Any]]) -> str:
    if not checkpoints:
        return "no checkpoint yet"
    last = checkpoints[-1]
    return f"{counted(len(checkpoints), 'checkpoint')}, the last one {last['checkpoint']} after {last['step']}"


def _span(began: str | None, ended: str | None, form: str = "{}") -> str:
    if began is None or ended is None:
        return ""
    return form.format(took((datetime.fromisoformat(ended) - datetime.fromisoformat(began)).total_seconds()))


def _steps(steps: list[dict[str, Any]]) -> None:
    table(*step_table(steps))


def step_table(steps: list[dict[str, Any]]) -> tuple[Sequence[str], list[list[str]]]:
    """Headings and rows of a table of steps, as `to_dict()` has them."""
    rows = [_cells(step) for step in steps]
    if not any(step["phase"] for step in steps):
        return _HEADINGS, rows
    with_phase = [[row[0], printable(step["phase"] or "-"), *row[1:]] for row, step in zip(rows, steps, strict=True)]
    return (_HEADINGS[0], _PHASE, *_HEADINGS[1:]), with_phase


def _cells(step: dict[str, Any]) -> list[str]:
    name = step["step"] if step["item"] is None else f"{step['step']}[{step['item']}]"
    return [
        name,
        step["status"] + (f" ({step['reason']})" if step["reason"] else ""),
        str(step["attempt"]) if step["attempt"] else "-",
        str(step["crashes"]) if step["crashes"] else "-",
        printable(step["worker"] or "-"),
        _span(step["started_at"], step["finished_at"]) or "-",
        "-" if step["output"] is None else preview(step["output"], 40),
    ]


def _attempts(session: Session, traceback: bool, hiding: Hiding) -> None:
    rows = session.attempts
    if rows:
        out("\nAttempts that did not succeed:")
    for row in rows:
        name = row["step"] if row["item"] == NO_ITEM else f"{row['step']}[{row['item']}]"
        where = f" on {printable(row['nodename'])}" if row["nodename"] else ""
        out(f"  {local(row['finished_at'])} {name}{where} {hiding.text(setback(row))}")
        if traceback and row["traceback"]:
            told = printable(hiding.text(row["traceback"]), lines=True)
            out("\n".join(f"      {line}" for line in told.splitlines()))
    if not traceback and any(row["traceback"] for row in rows):
        out(as_called(f"See where with: cascade show {session.id} --traceback"))


def _actions(actions: list[dict[str, Any]]) -> None:
    """Who did what to the session, and why."""
    if actions:
        out("\nActions:")
    for action in actions:
        who = f" by {printable(action['actor'])}" if action["actor"] else ""
        reason = f": {printable(action['reason'])}" if action["reason"] else ""
        out(f"  {local(action['at'])} {action['action']}{_answer(action['detail'])}{who}{reason}")


def _answer(detail: Any) -> str:
    """What a resume said of a step that waited for an answer."""
    if not isinstance(detail, dict) or "answer" not in detail:
        return ""
    value = f" {preview(detail['value'], 40)}" if "value" in detail else ""
    return f" (step {printable(str(detail.get('step')))}: {printable(str(detail['answer']))}{value})"
