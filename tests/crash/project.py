"""The project that is crashed: an app, tasks that log their effects, and a cascade that meets every point.

Loaded once by the fork server: each life is a fork of it and says where its broker and store are.
"""

from __future__ import annotations

import gc
import os
from typing import Any

# What a life would load by itself, each time anew.
import alembic.command  # noqa: F401
import billiard.pool  # noqa: F401
import celery.app.amqp
import celery.app.control
import celery.app.events
import celery.app.log
import celery.apps.worker
import celery.concurrency.prefork
import celery.concurrency.solo
import celery.concurrency.thread
import celery.events.receiver
import celery.worker.autoscale
import celery.worker.components
import celery.worker.consumer
import celery.worker.consumer.delayed_delivery
import celery.worker.strategy  # noqa: F401
import kombu.transport.pyamqp
import kombu.transport.redis  # noqa: F401
import psycopg  # noqa: F401
import pymysql  # noqa: F401
import sqlalchemy.dialects.mysql.pymysql
import sqlalchemy.dialects.postgresql.psycopg
import sqlalchemy.dialects.sqlite.pysqlite  # noqa: F401
from celery import Celery
from sqlalchemy.orm import configure_mappers

import celery_cascade.embedded.transport
import celery_cascade.persistence.store  # noqa: F401
from celery_cascade import Cascades, current_session
from celery_cascade.crash_points import CrashPoint, reached

PRELOADED_IN = os.getpid()
SESSION = "order-1"
FORK, RERUN = "order-1-fork", "order-1-rerun"
NEXT, THREAD = "order-1-next", "about order 1"  #: the turn of its conversation that follows it
OLD, NEW = 5, 2  #: sessions that have ended before: old ones, which a prune deletes, and new ones, which stay
INPUTS = {"n": 3}
#: Steps one after the other, a fan-out of four, a failure, a task's own retry, a skipped step, a join.
ORDER = {
    "cascade": "order",
    "inputs": {"n": "integer"},
    "steps": [
        {"id": "first", "task": "order.work", "with": ["{{ inputs.n }}"]},
        {"id": "plain", "needs": ["first"], "task": "order.work", "with": ["{{ outputs.first + 1 }}"]},
        {
            "id": "flaky",
            "needs": ["first"],
            "task": "order.fails_first",
            "with": ["{{ outputs.first + 2 }}"],
            "retry": {"max_attempts": 3, "delay": "10ms"},
        },
        {"id": "again", "needs": ["first"], "task": "order.asks_first", "with": ["{{ outputs.first + 3 }}"]},
        {"id": "never", "needs": ["first"], "when": "{{ inputs.n > 100 }}", "task": "order.work", "with": [0]},
        {
            "id": "join",
            "needs": ["plain", "flaky", "again", "never"],
            "task": "order.work",
            "with": ["{{ outputs.plain + outputs.flaky + outputs.again }}"],
        },
    ],
    "output": {"sum": "{{ outputs.join }}", "never": "{{ outputs.never }}"},
}

#: A step that cancels its own session: a cancel beside a step that runs, and a checkpoint that finds it so.
CANCELLED = {
    "cascade": "cancelled",
    "steps": [
        {"id": "first", "task": "order.work", "with": [1]},
        {"id": "stop", "task": "order.cancels", "with": [2]},
        {"id": "plain", "needs": ["first"], "task": "order.work", "with": [3]},
        {"id": "join", "needs": ["stop", "plain"], "task": "order.work", "with": [4]},
    ],
}

#: Steps that set, change and remove keys of the context and say something, one of them in vain the first time.
TURN = {
    "cascade": "turn",
    "steps": [
        {"id": "asks", "task": "order.shares"},
        {
            "id": "fails",
            "needs": ["asks"],
            "task": "order.shares",
            "with": {"removes": "asks", "fails_first": True},
            "retry": {"max_attempts": 3, "delay": "10ms"},
        },
        {"id": "answers", "needs": ["fails"], "task": "order.shares"},
    ],
    "output": "{{ outputs.answers }}",
}
#: The turn after it.
FOLLOWS = {
    "cascade": "follows",
    "steps": [{"id": "goes_on", "task": "order.shares", "with": {"removes": "fails"}}],
    "output": "{{ outputs.goes_on }}",
}

app = Celery("order", set_as_current=False)
cascades = Cascades(app)
_effects = ""


def effects_go_to(path: str) -> None:
    """Where bodies write what they have done."""
    global _effects
    _effects = path


def effect() -> int:
    """An effect outside SQL: a line more. Returns which of this step's it is, counted from 1."""
    session = current_session()
    word = f"{session.id} {session.step}"
    with open(_effects, "a+") as log:
        log.write(f"{word} {session.attempt} {os.getpid()}\n")
        log.flush()
        log.seek(0)
        count = sum(line.startswith(f"{word} ") for line in log)
    reached(CrashPoint.IN_BODY, session)
    return count


@app.task(name="order.work")
def work(value: int = 0) -> int:
    effect()
    return value


@app.task(name="order.fails_first")
def fails_first(value: int = 0) -> int:
    if effect() == 1:
        raise ValueError("the first run fails")
    return value


@app.task(name="order.asks_first", bind=True)
def asks_first(self: Any, value: int = 0) -> int:
    if effect() == 1:
        raise self.retry(countdown=0)
    return value


@app.task(name="order.shares")
def shares(removes: str | None = None, fails_first: bool = False) -> Any:
    """Counts, keeps a list, sets a key of its own and removes that of another, and says so; returns what it saw."""
    session = current_session()
    context = session.context
    context["count"] = context.get("count", 0) + 1
    context.setdefault("ran", []).append(session.step)
    session.say("user", f"{session.step}?")
    if effect() == 1 and fails_first:
        raise ValueError("the first run fails")
    context[session.step] = {"of": session.step}
    if removes is not None:
        del context[removes]
    session.say("assistant", f"{session.step}.", count=context["count"])
    return {"context": dict(context), "said": session.conversation_history}


@app.task(name="order.cancels")
def cancels(value: int = 0) -> int:
    effect()
    cascades.session(current_session().id).cancel("by its own step")
    return value


app.finalize()
configure_mappers()
TASKS = [app.tasks[task.name] for task in (work, fails_first, asks_first, shares, cancels)]
# A life whose collector looks at all this would first have it copied: ten times the cost of the fork.
gc.collect()
gc.freeze()
