"""The end of the demo: the table, the checks, what to try next, or what to send when something was wrong."""

from __future__ import annotations

import platform
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from celery_cascade.__about__ import __version__
from celery_cascade.demo.checks import Check
from celery_cascade.demo.commands import next_commands
from celery_cascade.demo.console import Console
from celery_cascade.demo.progress import seconds_of
from celery_cascade.demo.worker import LOG

LOG_LINES = 40


def show_state(console: Console, whole: dict[str, Any]) -> None:
    """What SQL knows while nobody runs."""
    console.table(
        ["step", "status", "worker"],
        [[step["step"], step["status"], step["worker"] or ""] for step in whole["steps"]],
    )


def show_table(console: Console, whole: dict[str, Any], attempts: Sequence[dict[str, Any]]) -> None:
    """Every step with its attempts and who ran them.

    Args:
        whole: the session as `to_dict()`.
        attempts: those that did not succeed.
    """
    rows = []
    for step in whole["steps"]:
        lost = [f"{row['nodename']} ({row['kind']})" for row in attempts if row["step"] == step["step"]]
        took = seconds_of(step)
        workers = ", then ".join([*lost, step["worker"] or "nobody"])
        rows.append([step["step"], step["status"], str(step["attempt"]), f"{took:.1f}" if took else "", workers])
    console.table(["step", "status", "attempts", "seconds", "worker"], rows)


def show_checks(console: Console, checks: Sequence[Check]) -> None:
    """Each check with its sign."""
    for check in checks:
        found = f" ({check.found})" if check.found else ""
        mark, colour = ("good", "green") if check.good else ("bad", "red")
        console.say(f"  {console.sign(mark)} {check.text}{found}", colour=colour, bold=not check.good)


def show_next(console: Console, folder: Path, session_id: str) -> None:
    """Where everything is, and what to try."""
    console.say(f"Everything is still there for a look: {folder}")
    console.say("To go on from here:")
    console.say()
    for command in next_commands(folder, session_id):
        console.say(f"  {command}", bold=True)


def show_failure(console: Console, problem: str, folder: Path) -> None:
    """What was wrong and what to send with a bug report."""
    console.say()
    console.say(f"The demo FAILED: {problem}", colour="red", bold=True)
    console.say(f"Its folder stays for a look: {folder}")
    console.say()
    console.say("Please send this with a bug report, and everything above:")
    console.say()
    console.say(f"  {versions()}")
    for line in log_tail(folder):
        console.say(f"  | {line}")


def log_tail(folder: Path) -> list[str]:
    """The end of the workers' log."""
    log = folder / LOG
    if not log.exists():
        return ["(no worker has written anything)"]
    return log.read_text(encoding="utf-8", errors="replace").splitlines()[-LOG_LINES:]


def versions() -> str:
    """What runs here."""
    parts = [f"celery-cascade {__version__}", f"Python {platform.python_version()}", platform.platform()]
    for name in ("celery", "kombu", "billiard", "sqlalchemy"):
        try:
            parts.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            parts.append(f"{name} of an unknown version")
    return ", ".join(parts) + f", {sys.executable}"
