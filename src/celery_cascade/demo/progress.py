"""Following a session from outside: what SQL and the shop's files say, told as it changes."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from celery_cascade.demo.console import Console
from celery_cascade.demo.order import ARTICLES, ORDER_ID
from celery_cascade.demo.runs import picked
from celery_cascade.demo.waiting import Patience
from celery_cascade.demo.worker import Worker
from celery_cascade.sessions.session import Session

Steps = dict[str, dict[str, Any]]


def steps_of(whole: dict[str, Any]) -> Steps:
    """The steps of a session's `to_dict()` by their ids."""
    return {step["step"]: step for step in whole["steps"]}


def seconds_of(step: dict[str, Any]) -> float | None:
    """How long a step's last attempt took; None while it has not ended."""
    if not step["started_at"] or not step["finished_at"]:
        return None
    took = datetime.fromisoformat(step["finished_at"]) - datetime.fromisoformat(step["started_at"])
    return took.total_seconds()


class Follower:
    """Prints what becomes of a session's steps.

    Args:
        session: whom to follow.
        folder: of the shop, whose picking list tells how far `pick` is.
        console: where it is told.
        patience: of whoever waits for it.
    """

    def __init__(self, session: Session, folder: Path, console: Console, patience: Patience) -> None:
        self._session = session
        self._folder = folder
        self._console = console
        self._patience = patience
        self._seen: dict[str, tuple[str, int]] = {}
        self._picked = 0

    def until(self, done: Callable[[Steps], bool], what: str, *, worker: Worker, seconds: float) -> None:
        """Tell how it goes until `done`. Raises DemoFailed if that takes too long or the worker ends."""

        def look() -> bool | None:
            worker.must_live()
            steps = self.look()
            return True if done(steps) else None

        self._patience.wait_for(look, what, seconds=seconds)

    def look(self) -> Steps:
        """Look once, and tell what has changed."""
        steps = steps_of(self._session.to_dict())
        self._tell_picking()
        for step in steps.values():
            now = (step["status"], step["attempt"])
            if self._seen.get(step["step"], ("pending", 0)) != now:
                self._seen[step["step"]] = now
                self._tell(step, steps)
        return steps

    def _tell(self, step: dict[str, Any], steps: Steps) -> None:
        done = sum(other["status"] == "succeeded" for other in steps.values())
        match step["status"]:
            case "running":
                again = f", attempt {step['attempt']}" if step["attempt"] > 1 else ""
                self._console.event(f"{step['step']:8} runs on {step['worker']}{again}", mark="runs")
            case "succeeded":
                took = f"{seconds_of(step) or 0:.1f} s"
                self._console.event(f"{step['step']:8} done in {took:6}  {done}/{len(steps)} steps", mark="good")
            case "failed":
                self._console.event(f"{step['step']:8} failed: {step['error']}", mark="bad")
            case _:  # queued and pending are over at once
                pass

    def _tell_picking(self) -> None:
        count = len(picked(self._folder, ORDER_ID))
        if count != self._picked:
            self._picked = count
            bar = "#" * count + "." * (ARTICLES - count)
            self._console.event(f"pick     [{bar}] {count} of {ARTICLES} articles")
