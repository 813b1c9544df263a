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
    with warnings.catch_warnings():
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


def _exit_code(process: BaseProcess, timeout: float) -> int | None:
    """By looking: `join(timeout)` waits for a pipe to close, which whatever the child has forked keeps open."""
    give_up_at = time.monotonic() + timeout
    look = 0.001
    while process.exitcode is None and time.monotonic() < give_up_at:
        time.sleep(look)
        look = min(look * 1.5, 0.01)
    return process.exitcode


def _child(work: Callable[[], None], log: Path) -> None:
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
