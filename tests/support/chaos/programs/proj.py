"""The application under chaos. Every body says in one log when it begins and when it ends."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from celery import Celery

from celery_cascade import Cascades, current_session
from celery_cascade.embedded import embedded

HERE = Path(__file__).parent
given = json.loads((HERE / "settings.json").read_text())
app = Celery("proj", **(embedded() if given["broker"] is None else {"broker": given["broker"]}))
app.conf.update(given["settings"])
cascades = Cascades(app)

#: Longer than the timeout of the steps that call `slow`, shorter than the one after which a worker counts as dead.
TOO_LONG = 2.5


def say(log: str, *words: object) -> None:
    """One line by one write: with O_APPEND those of several processes do not mix."""
    file = os.open(HERE / log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        os.write(file, f"{time.time_ns()} {' '.join(map(str, words))}\n".encode())
    finally:
        os.close(file)


@contextmanager
def told() -> Iterator[int]:
    """Log a body; its attempt."""
    session = current_session()
    assert session is not None
    what = (session.id, session.step, session.attempt, os.getpid())
    say("bodies.log", "began", *what)
    try:
        yield session.attempt
    finally:
        say("bodies.log", "ended", *what)


@app.task
def work(value, ms):
    with told():
        time.sleep(ms / 1000)
        return value


@app.task
def add(values, ms):
    with told():
        time.sleep(ms / 1000)
        return sum(values)


@app.task
def shaky(value, ms):
    with told() as attempt:
        time.sleep(ms / 1000)
        if attempt == 1:
            raise ValueError("the first attempt fails")
        return value


@app.task
def slow(value, ms):
    with told() as attempt:
        time.sleep(TOO_LONG if attempt == 1 else ms / 1000)
        return value


@app.task
def broken(value, ms):
    with told():
        time.sleep(ms / 1000)
        raise RuntimeError("never works")
