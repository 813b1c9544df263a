"""No fork while a thread of this process is in the middle of something.

A pool's main process forks whenever it replaces a child, while our threads work in it. Whatever they hold at that
moment the child inherits: half of an exchange on a socket, and locks that nobody will ever release in it. Seen: a
child that hung for ever, as a thread of its parent was just computing a `functools.cached_property`, which has a lock
up to Python 3.11; kombu's channels and connections have such locks on every Python.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable

logger = logging.getLogger("celery_cascade")

#: Seconds that a fork waits for what is under way. A server that does not answer must not stop a worker, so after that
#: it forks all the same, and so does every later fork while the same is still under way.
PATIENCE = 5.0
#: Seconds that a section lets waiting forks go first. A heartbeat must not come too late for them.
COURTESY = 0.5
_LOOK = 0.001


class Gate:
    """Holds a process's forks and its sections apart: `with gate:` is a section.

    Sections do not exclude each other, and may be nested. A fork waits until nobody else is inside; whoever forks may
    enter meanwhile, since a log handler or a signal handler may send something from there.

    No lock: a signal handler that raises in the middle of it must leave nothing that others wait for, and a child
    would inherit it. Each side first says what it does and then looks at the other, so one of both sees the other;
    a look every millisecond is only taken where they meet.
    """

    def __init__(self) -> None:
        self._inside: dict[int, int] = {}  # thread -> how deep
        self._waiting: set[int] = set()  # threads that want to fork,
        self._forking: set[int] = set()  # and that fork now
        self._given_up: set[int] = set()  # threads whose section a fork has waited for in vain
        self._before: list[Callable[[], None]] = []
        self._in_child: list[Callable[[], None]] = []
        os.register_at_fork(
            before=self.before, after_in_parent=self.after_in_parent, after_in_child=self.after_in_child
        )

    def on_fork(self, *, before: Callable[[], None], in_child: Callable[[], None]) -> None:
        """Have something done at each fork.

        Args:
            before: in the parent, with nobody inside; left out when somebody did not come out in time.
            in_child: in the child, always.
        """
        self._before.append(before)
        self._in_child.append(in_child)

    def __enter__(self) -> None:
        me = threading.get_ident()
        if me in self._inside:
            self._inside[me] += 1
            return
        began = time.monotonic()
        self._given_up.discard(me)
        try:
            self._inside[me] = 1
            while self._must_wait(me, time.monotonic() - began):
                self._inside.pop(me, None)
                time.sleep(_LOOK)
                self._inside[me] = 1
        except BaseException:
            self._inside.pop(me, None)
            raise

    def _must_wait(self, me: int, waited: float) -> bool:
        if me in self._forking or me in self._waiting:
            return False
        return bool(self._forking and waited < PATIENCE) or bool(self._waiting and waited < COURTESY)

    def __exit__(self, *_: object) -> None:
        me = threading.get_ident()
        if self._inside.get(me, 1) > 1:
            self._inside[me] -= 1
        else:
            self._given_up.discard(me)
            self._inside.pop(me, None)

    def before(self) -> None:
        """Wait until nobody else is inside."""
        me = threading.get_ident()
        give_up_at = time.monotonic() + PATIENCE
        self._waiting.add(me)
        while not self._alone(me):
            if time.monotonic() > give_up_at:
                self._given_up |= self._others(me)
                self._forking.add(me)
                logger.warning("a server has not answered for %.0f s; the process forks without waiting", PATIENCE)
                break
            time.sleep(_LOOK)
        if not self._others(me):
            for close in self._before:
                close()

    def _alone(self, me: int) -> bool:
        """Whether the fork may go on; from then on nobody enters."""
        self._forking.add(me)
        if self._others(me) - self._given_up:
            self._forking.discard(me)
            return False
        return True

    def _others(self, me: int) -> set[int]:
        return set(self._inside) - {me}

    def after_in_parent(self) -> None:
        """Go on."""
        me = threading.get_ident()
        self._forking.discard(me)
        self._waiting.discard(me)

    def after_in_child(self) -> None:
        """A child has one thread."""
        me = threading.get_ident()
        self._inside = {me: self._inside[me]} if me in self._inside else {}
        self._waiting, self._forking, self._given_up = set(), set(), set()
        for renew in self._in_child:
            renew()


#: The one of this process.
GATE = Gate()
