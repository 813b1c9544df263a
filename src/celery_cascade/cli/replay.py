"""`cascade replay`: look at a session as it was, version by version."""

from __future__ import annotations

import math
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import click

from celery_cascade.cli import keys
from celery_cascade.cli.caller import Caller
from celery_cascade.cli.ids import session_id
from celery_cascade.cli.options import Verb, id_argument, json_option
from celery_cascade.cli.replaying import banner, fitted, line, rows, state_lines, waits
from celery_cascade.cli.words import is_json, out, out_json, say
from celery_cascade.sessions.hiding import hiding_of
from celery_cascade.sessions.history import History
from celery_cascade.sessions.session import Session
from celery_cascade.states import SessionStatus

_HELP = "space, l or → forward; h or ← back; g first; G last; q leaves"
_CLEAR = "\x1b[H\x1b[2J"


@click.command(
    cls=Verb,
    example=(
        "celery -A proj cascade replay @last",
        "celery -A proj cascade replay 3f2a91 --at 4",
        "celery -A proj cascade replay 3f2a91 --speed 10",
    ),
)
@id_argument
@click.option("--at", "version", type=int, metavar="N", help="Print the session as it was at version N.")
@click.option(
    "--speed",
    type=click.FloatRange(min=0, min_open=True),
    metavar="X",
    help="Play it by itself, X times as fast as it was; no wait is longer than 2 seconds.",
)
@json_option
def replay(session: str, version: int | None, speed: float | None, as_json: bool) -> None:
    """Look at a session as it was: its status, steps, outputs and context at each of its versions.

    On a terminal you go forward and back with keys. In a pipe its timeline is printed, a line a version; with --at the
    state at one version. Nothing of the session is changed.
    """
    if version is not None and speed is not None:
        raise click.UsageError("--at shows one version; --speed plays them all. Give one of them.")
    if speed is not None and math.isnan(speed):
        raise click.UsageError("--speed is a number above 0")
    runtime = Caller.here().runtime
    found = Session(runtime, session_id(runtime.store, session))
    history = found.history()
    if is_json(click.get_current_context()):
        _json(found, history, version)
        return
    if "warning" in history.remarks:
        say(f"Warning: {history.remarks['warning']}")
    if version is not None:
        state = history.at(version)
        say(banner(state, history.latest))
        _print(state_lines(state, history.timeline()[version - 1]["what"]))
        return
    if history.at(history.latest)["status"] == SessionStatus.ACTIVE:
        say(f"Session {found.id} still runs; this is what there is up to version {history.latest}.")
    if speed is not None:
        _play(history, waits(history.timeline(), speed), _watching() if keys.possible() else _sleep)
    elif keys.possible():
        _step_through(history)
    else:
        _print([line(entry, history.latest) for entry in history.timeline()])


def _json(session: Session, history: History, version: int | None) -> None:
    if version is None:
        out_json({"session_id": session.id, "versions": history.timeline(), **history.remarks})
    else:
        cascade = hiding_of(Caller.here().runtime, session.id).values(session.stored_cascade()["cascade"])
        out_json({"session": history.at(version), "cascade": cascade})


def _print(lines: Sequence[str]) -> None:
    for text in lines:
        out(text)


def _play(history: History, pauses: Sequence[float], wait: Callable[[float], bool]) -> None:
    """A line a version, when its time has come; `wait` says whether to go on."""
    timeline = history.timeline()
    for entry, pause in zip(timeline, [*pauses, 0.0], strict=True):
        out(line(entry, history.latest))
        sys.stdout.flush()
        if entry is not timeline[-1] and not wait(pause):
            return


def _sleep(seconds: float) -> bool:
    time.sleep(seconds)
    return True


def _watching() -> Callable[[float], bool]:
    """Wait, and stop when somebody presses q."""

    def wait(seconds: float) -> bool:
        until = time.monotonic() + seconds
        with keys.keys() as pressed:
            while (left := until - time.monotonic()) > 0:
                if pressed.read(left) == keys.QUIT:
                    return False
        return True

    return wait


def _step_through(history: History) -> None:
    """One screen a version, until somebody leaves."""
    timeline = history.timeline()
    version = 1
    with keys.keys() as pressed:
        while True:
            _screen(history, version, timeline[version - 1]["what"])
            key = pressed.read()
            while key is None:
                key = pressed.read()
            if key == keys.QUIT:
                return
            version = moved(version, key, history.latest)


def moved(version: int, key: str, latest: int) -> int:
    """Where a key leads."""
    asked = {keys.FORWARD: version + 1, keys.BACK: version - 1, keys.FIRST: 1, keys.LAST: latest}[key]
    return min(max(asked, 1), latest)


def _screen(history: History, version: int, what: str) -> None:
    state: Any = history.at(version)
    title = f"{banner(state, history.latest)}; q leaves"
    columns, height = shutil.get_terminal_size()
    room = max(5, height - rows(title, columns) - rows(_HELP, columns) - 2)  # an empty line, and that of the cursor
    out(_CLEAR + title)
    _print([*fitted(state_lines(state, what), room, version, columns=columns), "", _HELP])
