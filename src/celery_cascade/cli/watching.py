"""What a verb does after a session was set going: follow it to its end, or leave it to the workers."""

from __future__ import annotations

import signal
import threading
from datetime import timedelta

from celery_cascade.cli.caller import Caller
from celery_cascade.cli.ending import conclude, detached
from celery_cascade.cli.follow import Follower, no_worker
from celery_cascade.cli.living import lack_of, workers
from celery_cascade.cli.words import out_session, say
from celery_cascade.sessions.in_thread import goes_before
from celery_cascade.sessions.session import Session


def leave(caller: Caller, session: Session) -> None:
    """`--detach`: the id is all there is on stdout."""
    out_session(session)
    runtime = caller.runtime
    first = goes_before(runtime, session.id)
    if first is not None:
        say(f"It waits for its turn in the thread: for the end of session {first}")
    lack = lack_of(runtime, runtime.facts(first or session.id).plan, workers(runtime))
    if lack is not None:
        for line in no_worker(caller, first or session.id, lack):
            say(line)


def watch_to_the_end(caller: Caller, session: Session, timeout: timedelta | None, since: int = 0) -> None:
    """Follow a session that workers run, and exit as it ends."""
    follower = Follower(caller.runtime, session.id, since=since, caller=caller)
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl+C: it goes on, and that is said
    try:
        status = follower.follow(None if timeout is None else timeout.total_seconds())
    except KeyboardInterrupt:
        detached(session)
    conclude(session, status)
