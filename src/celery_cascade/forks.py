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
from collections.abc import Callable

logger = logging.getLogger("celery_cascade")

#: Seconds that a fork waits for what is under way. A server that does not answer must not stop a worker, so after that
#: it forks all the same. Less than lets a heartbeat that waits behind the fork come too late.
PATIENCE = 5.0


class Gate:
    """Holds a process's forks and its sections apart: `with gate:` is a section.

    Sections do not exclude each other, and may be nested. A fork waits until nobody is inside, and meanwhile nobody
    enters, so that it gets its turn.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._inside: dict[int, int] = {}  # thread -> how deep
        self._forking = 0
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
        with self._changed:
            if me not in self._inside:
                self._changed.wait_for(lambda: not self._forking)
            self._inside[me] = self._inside.get(me, 0) + 1

    def __exit__(self, *_: object) -> None:
        me = threading.get_ident()
        with self._changed:
            self._inside[me] -= 1
            if not self._inside[me]:
                del self._inside[me]
                self._changed.notify_all()

    def before(self) -> None:
        """Wait until nobody else is inside."""
        me = threading.get_ident()
        with self._changed:
            self._forking += 1
            alone = self._changed.wait_for(lambda: not self._inside.keys() - {me}, timeout=PATIENCE)
        if not alone:
            logger.warning("a server has not answered for %.0f s; the process forks without waiting for it", PATIENCE)
            return
        for close in self._before:
            close()

    def after_in_parent(self) -> None:
        """Go on."""
        with self._changed:
            self._forking -= 1
            self._changed.notify_all()

    def after_in_child(self) -> None:
        """A child has one thread, and locks that nobody will release: make them anew."""
        me = threading.get_ident()
        self._changed = threading.Condition()
        self._inside = {me: self._inside[me]} if me in self._inside else {}
        self._forking = 0
        for renew in self._in_child:
            renew()


#: The one of this process.
GATE = Gate()
