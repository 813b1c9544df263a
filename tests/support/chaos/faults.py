"""The faults, one function each. Each says whether it did something; what it begins, timers end."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from support.chaos.fleet import Worker, launch
from support.chaos.ground import TIMEOUT
from support.private import RabbitMQ, Redis, Server

if TYPE_CHECKING:
    from support.chaos.run import Chaos

#: Returns the name under which it is counted, "" when that is done elsewhere; None = it found nothing to do yet.
Fault: TypeAlias = "Callable[[Chaos], str | None]"


def some_worker(chaos: Chaos) -> Worker | None:
    """One that runs, is not frozen and was not told to end."""
    fit = [w for w in chaos.workers if w.runs and not w.told_to_end and w is not chaos.frozen]
    return chaos.rng.choice(fit) if fit else None


def kill_worker(chaos: Chaos) -> str | None:
    worker = some_worker(chaos)
    if worker is None:
        return None
    worker.kill()
    chaos.later(chaos.rng.uniform(0, 1.5), worker.start)
    return "worker killed"


def kill_busy_child(chaos: Chaos) -> str | None:
    """It is held still first, to see that it is in a body and not between two: see `kill_idle_child`."""
    chaos.bodies.read()
    pids = [pid for worker in chaos.workers if worker is not chaos.frozen and worker.runs for pid in worker.children()]
    busy = sorted(chaos.bodies.busy() & set(pids))
    if not busy:
        return None
    pid = chaos.rng.choice(busy)
    try:
        os.kill(pid, signal.SIGSTOP)
        chaos.bodies.read()
        still = pid in chaos.bodies.busy()
        os.kill(pid, signal.SIGKILL if still else signal.SIGCONT)
    except ProcessLookupError:
        return None
    return "busy pool child killed" if still else None


def kill_idle_child(chaos: Chaos) -> str | None:
    """Not on the embedded broker: the pool of a worker without an event loop, Celery's own, stalls by that."""
    pids = [pid for worker in chaos.workers if worker is not chaos.frozen and worker.runs for pid in worker.children()]
    chaos.bodies.read()
    idle = sorted(set(pids) - chaos.bodies.busy())
    if not idle:
        return None
    try:
        os.kill(chaos.rng.choice(idle), signal.SIGKILL)
    except ProcessLookupError:
        return None
    return "idle pool child killed"


def freeze_worker(chaos: Chaos) -> str | None:
    """SIGSTOP past its heartbeat, of all its processes or of the main one alone; then it goes on as a zombie."""
    worker = some_worker(chaos)
    if worker is None or chaos.frozen is not None:
        return None
    whole = chaos.rng.random() < 0.5
    pid, pids = worker.pid, frozenset([worker.pid, *(worker.children() if whole else [])])
    send = os.killpg if whole else os.kill
    send(pid, signal.SIGSTOP)
    chaos.frozen, began = worker, time.time()

    def go_on() -> None:
        chaos.frozen = None
        chaos.pauses.append((pids, began, time.time()))
        try:
            send(pid, signal.SIGCONT)
        except ProcessLookupError:
            return

    chaos.later(TIMEOUT + chaos.rng.uniform(1, 2), go_on)
    return "worker frozen" if whole else "worker's main process frozen"


def restart_worker(chaos: Chaos) -> str | None:
    worker = some_worker(chaos)
    if worker is None:
        return None
    worker.terminate()  # `Chaos.tick` starts it again once it has ended
    return "worker restarted by SIGTERM"


def kill_client(chaos: Chaos) -> str | None:
    chaos.starters.want_a_death()  # counted when it happens
    return ""


def take_down(which: str) -> Fault:
    """Stop or kill the database or the broker, and start it again some seconds later."""

    def fault(chaos: Chaos) -> str | None:
        server: Server | None = getattr(chaos.ground, which)
        if server is None or not server.runs or not server.answers():  # a start is not interrupted
            return None
        how = chaos.rng.choice(["restarted", "killed"])
        if how == "killed":
            server.crash()
        else:
            server.stop()
        chaos.later(chaos.rng.uniform(0.2, 4), server.launch)
        return f"{server.title} {how}"

    return fault


def lose_messages(chaos: Chaos) -> str | None:
    broker = chaos.ground.broker
    if broker is None or not broker.runs or not broker.answers():
        return None
    if isinstance(broker, Redis):
        broker.flush()
        return "Redis flushed"
    assert isinstance(broker, RabbitMQ)
    broker.delete_queue()
    return "RabbitMQ's queue deleted"


def write_beside(chaos: Chaos) -> str | None:
    """Somebody else who writes to the two SQLite files."""
    if chaos.neighbour is not None and chaos.neighbour.poll() is None:
        return None
    files = [str(chaos.ground.folder / ".cascade" / name) for name in ("store.sqlite", "broker.sqlite")]
    chaos.neighbour = launch(chaos.ground, "writer", "writer.py", "4", str(chaos.rng.random()), *files)
    return "competing writer"


COMMON: list[tuple[Fault, float]] = [
    (kill_worker, 5),
    (kill_busy_child, 5),
    (freeze_worker, 2),
    (restart_worker, 1),
    (kill_client, 1.5),
]
EMBEDDED: list[tuple[Fault, float]] = [*COMMON, (write_beside, 2)]
ON_SERVERS: list[tuple[Fault, float]] = [
    *COMMON,
    (kill_idle_child, 1),
    (take_down("database"), 1.5),
    (take_down("broker"), 1),
    (lose_messages, 1.5),
]
