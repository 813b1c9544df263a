"""`run_demo`: the demo from its folder to its exit code."""

from __future__ import annotations

import signal
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import click

from celery_cascade.demo import report
from celery_cascade.demo.checks import Check
from celery_cascade.demo.console import Console
from celery_cascade.demo.errors import DemoFailed
from celery_cascade.demo.folder import make_folder, own_settings, remove_folder
from celery_cascade.demo.story import Story
from celery_cascade.errors import CascadeError

INTERRUPTED_EXIT = 130


def run_demo(folder: Path | None = None, *, echo: Callable[[str], object] = click.echo, keep: bool = True) -> int:
    """Kill a worker in the middle of a cascade and show that the session goes on by itself.

    Args:
        folder: a new or empty one for the demo's files; None = `cascade-demo` in the working directory.
        echo: prints one text.
        keep: whether the folder stays; after a failure it always does.

    Returns:
        The exit code: 0 if everything was as promised, 1 if not, 130 if interrupted.

    Raises:
        UsageError: the folder cannot be made.
    """
    console = Console(echo)
    place = make_folder(folder)
    try:
        with own_settings(), ending_on_signals():
            session_id, checks = Story(place, console).play()
    except KeyboardInterrupt:
        console.say(f"Interrupted; the worker is gone, the folder stays: {place}", colour="red")
        return INTERRUPTED_EXIT
    except (DemoFailed, CascadeError) as error:
        report.show_failure(console, str(error), place)
        return 1
    except Exception:  # noqa: BLE001  whatever it is, it is told with what a bug report needs
        report.show_failure(console, traceback.format_exc(), place)
        return 1
    return conclude(console, place, session_id, checks, keep=keep)


def conclude(console: Console, folder: Path, session_id: str, checks: list[Check], *, keep: bool) -> int:
    """The last words, and the exit code."""
    wrong = [check.text for check in checks if not check.good]
    if wrong:
        report.show_failure(console, f"it is not so that {'; nor that '.join(wrong)}", folder)
        return 1
    console.say()
    if keep:
        report.show_next(console, folder, session_id)
        console.say()
    else:
        remove_folder(folder)
    console.say(f"All as promised, in {console.seconds:.0f} s.", colour="green", bold=True)
    return 0


@contextmanager
def ending_on_signals() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end the demo as Ctrl+C does, so that no worker outlives it."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    heard = [number for number in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(number) is not signal.SIG_IGN]
    kept = {number: signal.signal(number, interrupt) for number in heard}
    try:
        yield
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)
