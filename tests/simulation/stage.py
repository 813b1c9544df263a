"""Activities of simulated processes: greenlets of which one runs at a time, and a clock that only we move.

An activity hands over at places that it reaches by itself (`park`), so a history is the same each time it is played.
Greenlets and not threads: to hand over between two threads takes longer than what most of them do in between. Each has
its own context variables, and Celery its own stack of tasks for each, as they would have as threads.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from greenlet import getcurrent, greenlet


class Crashed(BaseException):
    """This process is dead. Nothing that it still unwinds reaches the database or the broker."""


class Process:
    """What dies, stops and comes back as a whole: a worker's incarnation, or a client.

    Args:
        runtime: ours, of the app that runs in it.
    """

    def __init__(self, name: str, runtime: Any) -> None:
        self.name, self.runtime = name, runtime
        self.dead = False
        self.up = False  #: it takes messages
        self.back_at: float | None = None  #: it is stopped until then
        self.witness: Any = None

    def __repr__(self) -> str:
        return self.name


class Activity:
    """What would be one thread of a process."""

    def __init__(self, number: int, owner: Process, what: str, work: Callable[[], object], *, lasting: bool) -> None:
        self.number, self.owner, self.what, self.lasting = number, owner, what, lasting
        self.wake = 0.0
        self.message: Any = None  #: what it has received and not acknowledged
        self.token: str | None = None  #: of the step whose body it runs, or has run
        self.error: BaseException | None = None
        self.done = False
        self.work = work
        self.thread: greenlet | None = None


class Stage:
    """Who runs, and what time it is."""

    def __init__(self) -> None:
        self.now = 0.0
        self.current: Activity | None = None
        self.activities: list[Activity] = []
        self._fallen: list[Activity] = []  #: what crashed while it ran
        self._begun = 0

    def begin(
        self, owner: Process, what: str, work: Callable[[], object], *, after: float = 0.0, lasting: bool = False
    ) -> Activity:
        """A new thread of a process; it runs when the scheduler chooses it.

        Args:
            lasting: it goes on as long as its process, so nobody waits for its end.
        """
        self._begun += 1
        activity = Activity(self._begun, owner, what, work, lasting=lasting)
        activity.wake = self.now + after
        self.activities.append(activity)
        return activity

    def resume(self, activity: Activity) -> None:
        """Let it run until it parks or ends."""
        self.current = activity
        if activity.thread is None:
            activity.thread = greenlet(partial(self._run, activity))
        activity.thread.parent = getcurrent()
        activity.thread.switch()
        self.current = None
        if activity.done:
            self.activities.remove(activity)
            if activity.owner.dead:
                self._fallen.append(activity)

    def _run(self, activity: Activity) -> None:
        try:
            if not activity.owner.dead:
                activity.work()
        except Crashed:
            pass
        except BaseException as error:  # noqa: BLE001  the scheduler looks at it
            activity.error = error
        finally:
            activity.done = True

    def park(self, seconds: float = 0.0) -> None:
        """Hand over, and go on when chosen again, `seconds` from now at the soonest."""
        me = self.current
        assert me is not None
        if me.owner.dead:
            raise Crashed
        me.wake = self.now + seconds
        me.thread.parent.switch()
        if me.owner.dead:
            raise Crashed

    def reap(self) -> list[Activity]:
        """Unwind what dead processes were at; returns it."""
        for one in [one for one in self.activities if one.owner.dead]:
            self.resume(one)
            assert one.done, f"{one.what} of {one.owner} goes on although it is dead"
        found, self._fallen = self._fallen, []
        return found

    def close(self) -> None:
        for one in self.activities:
            one.owner.dead = True
        self.reap()
