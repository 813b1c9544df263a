"""What is said of a fork that has just been made, whichever verb has made it."""

from __future__ import annotations

from celery_cascade.cli.words import counted, printable, say
from celery_cascade.persistence.fork import KEPT
from celery_cascade.sessions.forking import in_doubt
from celery_cascade.sessions.session import Session
from celery_cascade.tasks.runtime import Runtime


def say_forked(runtime: Runtime, origin: Session, made: Session, *, has: str = "") -> None:
    """Its id, what it keeps, and what it may do for the second time; `has`: what else is new in it."""
    whole = made.to_dict()
    say(f"Session {made.id}")
    say(f"It {has}keeps {counted(whole['progress']['done'], 'finished step')} of session {origin.id}.")
    kept = {step["step"] for step in whole["steps"] if step["reason"] == KEPT}
    for step in sorted(in_doubt(runtime, origin.id) - kept):
        say(f"Step {printable(step)} is in doubt there: it may have done its work already. Here it runs again.")
