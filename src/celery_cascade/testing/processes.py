"""A child of this process for one piece of work: it may crash, hang, or leave processes of its own behind."""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.process import BaseProcess
from pathlib import Path

#: A child that raised; what, stands in its log.
RAISED = 70


def run_apart(work: Callable[[], None], log: Path, *, timeout: float) -> int | None:
    """Do it in a forked child, a process group of its own; returns its exit code, None if it had to be ended.

    Forked, not spawned: the app is loaded already, and what a test has replaced in it stays replaced. Whatever the
    child has started is killed with it, as when a machine goes down.

    Args:
        work: what to do.
        log: the file that gets what it prints.
        timeout: seconds.
    """
    process = multiprocessing.get_context("fork").Process(target=_child, args=(work, log))
    with warnings.catch_warnings(), _CLEANING:
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12: "multi-threaded, use of fork()"
        process.start()
    assert process.pid is not None
    try:
        return _exit_code(process, timeout)
    finally:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.kill()  # in case it had no group of its own yet
        process.join()


class _Cleaning:
    """Inside, a child of this process is not held up by what it cleans up first.

    kombu closes the connections that a child has inherited. On Redis it then waits for the answer to what the parent
    has asked (after `app.control.inspect()`, say), and for ever, since the parent has it or gets it. So every half
    second whatever the child waits for is broken off, until `done`.
    """

    _forking = False

    def __init__(self) -> None:
        os.register_at_fork(after_in_child=self._in_child)

    def __enter__(self) -> None:
        self._forking = True

    def __exit__(self, *_: object) -> None:
        self._forking = False

    def _in_child(self) -> None:
        if self._forking:
            signal.signal(signal.SIGALRM, self._break_off)
            signal.setitimer(signal.ITIMER_REAL, 0.5, 0.5)

    @staticmethod
    def _break_off(*_: object) -> None:
        raise TimeoutError

    def done(self) -> None:
        """The child is about to do what it is there for."""
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        self._forking = False


_CLEANING = _Cleaning()


def _exit_code(process: BaseProcess, timeout: float) -> int | None:
    """By looking: `join(timeout)` waits for a pipe to close, which whatever the child has forked keeps open."""
    give_up_at = time.monotonic() + timeout
    look = 0.001
    while process.exitcode is None and time.monotonic() < give_up_at:
        time.sleep(look)
        look = min(look * 1.5, 0.01)
    return process.exitcode


def _child(work: Callable[[], None], log: Path) -> None:
    _CLEANING.done()
    os.setsid()
    file = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.dup2(file, 1)
    os.dup2(file, 2)
    sys.stdout = sys.stderr = os.fdopen(file, "w", buffering=1, encoding="utf-8", errors="replace")
    code = RAISED
    gc.freeze()  # a collection would write to every page of a large test suite, and the kernel copy each
    try:
        work()
        code = 0
    except BaseException:  # noqa: BLE001  the parent reads it
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(code)  # no threads are waited for, no handlers of a test runner run
