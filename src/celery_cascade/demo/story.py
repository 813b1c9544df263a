"""The story that the demo tells: a worker, its death in the middle of a step, another worker, the end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from celery_cascade.demo import report
from celery_cascade.demo.checks import Check, Evidence, check_all
from celery_cascade.demo.console import Console
from celery_cascade.demo.errors import DemoFailed
from celery_cascade.demo.folder import load_shop
from celery_cascade.demo.order import INTERRUPTED, ORDER_ID
from celery_cascade.demo.progress import Follower, Steps
from celery_cascade.demo.runs import picked, runs_of
from celery_cascade.demo.waiting import Patience
from celery_cascade.demo.worker import ARGUMENTS, Worker
from celery_cascade.sessions.session import Session

#: The worker is killed when so many articles are picked: in the middle of the step.
ARTICLES_BEFORE_KILL = 3
SECONDS_TO_THE_KILL = 15.0
#: At once where /proc tells that a process is gone; elsewhere (macOS) after `cascade_heartbeat_timeout`.
SECONDS_TO_GO_ON = 40.0
SECONDS_TO_THE_END = 15.0
SECONDS_IN_ALL = 58.0


class Story:
    """One telling.

    Args:
        folder: with the project in it.
        console: where it is told.
    """

    def __init__(self, folder: Path, console: Console) -> None:
        self._folder = folder
        self._console = console
        self._patience = Patience(SECONDS_IN_ALL)

    def play(self) -> tuple[str, list[Check]]:
        """The whole story; returns the session's id and what was checked.

        Raises:
            DemoFailed: it took another course.
        """
        self._introduce()
        cascades = load_shop(self._folder)
        with Worker(self._folder, "first", self._patience) as first:
            self._begin(first)
            session = cascades.start(self._folder / "order.yaml", {"order_id": ORDER_ID})
            self._console.event(f"session {session.id} is in SQL, with its definition and inputs")
            follower = Follower(session, self._folder, self._console, self._patience)
            self._to_the_middle(follower, first)
            exit_code = first.kill()
        before = session.to_dict()
        self._tell_of_the_kill(first, before)
        with Worker(self._folder, "second", self._patience) as second:
            self._begin(second)
            self._see_it_go_on(session, second)
            self._to_the_end(follower, session, second)
            self._see_it_stop(session, second)
        return session.id, self._judge(session, before, exit_code)

    def _introduce(self) -> None:
        title = "A worker is killed in the middle of a cascade, and the session goes on by itself."
        self._console.say(title, bold=True)
        self._console.say(f"Folder:  {self._folder}")
        self._console.say("Cascade: order.yaml, 7 steps of shop.py; pick and label run side by side and join in pack")
        self._console.say()

    def _begin(self, worker: Worker) -> None:
        self._console.event(f"worker {worker.name!r} starts, process {worker.pid}: celery {' '.join(ARGUMENTS)}")
        worker.wait_until_ready()
        self._console.event(f"worker {worker.name!r} is ready", mark="good")

    def _to_the_middle(self, follower: Follower, worker: Worker) -> None:
        what = f"{INTERRUPTED!r} was half done and 'label' finished"
        follower.until(self._is_the_middle, what, worker=worker, seconds=SECONDS_TO_THE_KILL)

    def _is_the_middle(self, steps: Steps) -> bool:
        """Whether this is the moment for the kill: one branch has finished, the other is half done."""
        is_running = steps[INTERRUPTED]["status"] == "running" and steps["label"]["status"] == "succeeded"
        return is_running and len(picked(self._folder, ORDER_ID)) >= ARTICLES_BEFORE_KILL

    def _tell_of_the_kill(self, worker: Worker, before: dict[str, Any]) -> None:
        self._console.event(f"SIGKILL to worker {worker.name!r} and its pool, while {INTERRUPTED!r} runs", mark="bad")
        self._console.say()
        self._console.say("Nobody runs now. What SQL knows, whatever has become of the broker's messages:")
        report.show_state(self._console, before)
        self._console.say()

    def _see_it_go_on(self, session: Session, worker: Worker) -> None:
        """Wait for the second attempt, and tell how soon it came. Nobody has asked for it."""

        def second_attempt() -> float | None:
            worker.must_live()
            runs = [run for run in runs_of(self._folder, session.id) if run.step == INTERRUPTED and run.attempt > 1]
            return runs[0].moment.timestamp() if runs else None

        what = f"the session went on with {INTERRUPTED!r}"
        if not Path("/proc/self/stat").exists():
            self._console.event("without /proc a dead worker is known by its silence: about 20 s")
        began = self._patience.wait_for(second_attempt, what, seconds=SECONDS_TO_GO_ON)
        after = max(0.0, began - worker.ready_at)
        self._console.event(f"the session goes on, {after:.1f} s after the worker was ready; nobody asked", mark="good")

    def _to_the_end(self, follower: Follower, session: Session, worker: Worker) -> None:
        what = "the session had ended"
        follower.until(lambda _: session.ready(), what, worker=worker, seconds=SECONDS_TO_THE_END)
        follower.look()

    def _see_it_stop(self, session: Session, worker: Worker) -> None:
        """An operator's end. Celery takes some seconds for it: time to read the table."""
        worker.ask_to_stop()
        self._console.event(f"worker {worker.name!r} stops: SIGTERM")
        self._console.say()
        report.show_table(self._console, session.to_dict(), session.attempts)
        self._console.say()
        code = worker.wait_until_stopped()
        if code != 0:
            raise DemoFailed(f"worker {worker.name!r} ended with exit code {code} after SIGTERM")
        self._console.event(f"worker {worker.name!r} has stopped", mark="good")

    def _judge(self, session: Session, before: dict[str, Any], exit_code: int | None) -> list[Check]:
        """Check everything, now that nobody can change it any more."""
        evidence = Evidence(
            folder=self._folder,
            before=before,
            after=session.to_dict(),
            definition=session.definition,
            exit_code=exit_code,
        )
        checks = check_all(evidence)
        self._console.say()
        report.show_checks(self._console, checks)
        return checks
