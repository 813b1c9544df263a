"""Lives of the project: processes forked from a warmed fork server, each starting the session and then working on it.

What a caller does who got no answer is in it: every life starts the session again under the same id.
"""

from __future__ import annotations

import faulthandler
import logging
import multiprocessing
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from multiprocessing.connection import wait
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import sqlalchemy as sa
from celery.signals import task_received, worker_ready

from celery_cascade.errors import NotResumable, SessionConflict
from celery_cascade.persistence import tables
from celery_cascade.tasks import overtime, recovery
from crash.places import Crash, VisitLog, arm_life, at_acks

ROOT = Path(__file__).parents[2]
#: What lives would import, each for itself; the command's own modules among them. The last one freezes it all.
PRELOADED = ["crash.lives", "crash.migrating", "crash.plans", "crash.project"]
QUICK = {
    "cascade_timer_interval": 0.1,
    "cascade_orphan_interval": 0.2,
    "cascade_heartbeat_interval": 1,
    "cascade_heartbeat_timeout": 10,
    "cascade_resend_after": 2,
    "task_ignore_result": True,
    "worker_enable_remote_control": False,
    "worker_prefetch_multiplier": 1,
    "worker_cancel_long_running_tasks_on_connection_loss": True,
    "broker_connection_retry_on_startup": True,
}


@dataclass(frozen=True, slots=True)
class Where:
    """Where a life takes place: everything that it is told."""

    folder: str
    database_url: str
    broker_url: str
    queue: str
    pool: str = "solo"
    acks_late: bool = True
    concurrency: int = 2
    settings: dict[str, Any] = field(default_factory=dict)

    def log(self, number: int) -> Path:
        """The visits of a life."""
        return Path(self.folder) / f"visits-{number}.log"

    def received(self, number: int) -> Path:
        """A byte for each message that a life has taken from the queue."""
        return Path(self.folder) / f"received-{number}"

    @property
    def effects(self) -> Path:
        """What bodies have done."""
        return Path(self.folder) / "effects.log"

    def words(self, number: int) -> Path:
        """What a life has said."""
        return Path(self.folder) / f"life-{number}.log"


def _context() -> Any:
    """The fork server of this process; it takes the path of modules from the environment."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    paths = [str(ROOT / "src"), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")]
    os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(path for path in paths if path))
    return context


_CONTEXT = _context()
WHERE_ARE_YOU = signal.SIGRTMIN
#: multiprocessing looks after all children whenever one is started: two threads at once would read the same end.
_LOCK = threading.Lock()


class Life:
    """A process that works for the project."""

    def __init__(self, target: Callable[..., None], *arguments: Any) -> None:
        self._process = _CONTEXT.Process(target=_lived, args=(target, *arguments), daemon=True)
        with _LOCK:
            self._process.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def ended(self, seconds: float = 0.0) -> int | None:
        """Its exit code once it has ended, which is waited for so long; else None."""
        if not wait([self._process.sentinel], seconds):
            return None
        with _LOCK:
            return self._process.exitcode

    def tell(self) -> None:
        """Have it write down where its threads are."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, WHERE_ARE_YOU)
        self.ended(1)

    def kill(self) -> None:
        """End it and its children, without a goodbye."""
        for end in (os.killpg, os.kill):  # one that has only just begun leads no group yet
            with suppress(ProcessLookupError):
                end(self.pid, signal.SIGKILL)
        if self.ended(10) is None:
            raise RuntimeError(f"life {self.pid} does not end")


def _lived(target: Callable[..., None], where: Where, number: int, *arguments: Any) -> None:
    os.setpgid(0, 0)
    threading.Thread(target=_die_with, args=(os.getpid(),), daemon=True).start()
    out = os.open(where.words(number), os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600)
    os.dup2(out, 1)
    os.dup2(out, 2)
    faulthandler.register(WHERE_ARE_YOU)
    try:
        target(where, number, *arguments)
    except BaseException:
        traceback.print_exc()
        raise
    finally:
        sys.stdout.flush()


def _die_with(me: int) -> None:
    """A life ends with the process that wanted it, however that ends."""
    wait([multiprocessing.parent_process().sentinel])  # type: ignore[union-attr]
    os.killpg(me, 9)


def configured(where: Where, number: int, crash: Crash | None) -> Any:
    """The project, told where it is, with its points armed."""
    from celery_cascade.embedded.transport import Transport
    from crash import project

    Transport.polling_interval = 0.03
    project.effects_go_to(str(where.effects))
    prefix = {"global_keyprefix": f"{where.queue}:"} if where.broker_url.startswith("redis") else {}
    project.app.conf.update(
        QUICK
        | {
            "broker_url": where.broker_url,
            "broker_transport_options": prefix,
            "cascade_database_url": where.database_url,
            "task_default_queue": where.queue,
        }
        | where.settings
    )
    for task in project.TASKS:
        task.acks_late = where.acks_late
    arm_life(VisitLog(str(where.log(number))), crash, os.getpid())
    return project


# -- what a life does --------------------------------------------------------------------------------------------------


def work(where: Where, number: int, crash: Crash | None) -> None:
    """Start the session, unless it is there, and be a worker."""
    project = configured(where, number, crash)
    with suppress(SessionConflict):  # it has ended
        project.cascades.start(project.ORDER, project.INPUTS, session_id=project.SESSION)
    worker(where, number, project)


def go_on(where: Where, number: int, crash: Crash | None) -> None:
    """Be a worker that starts nothing."""
    worker(where, number, configured(where, number, crash))


def work_and_cancel(where: Where, number: int, crash: Crash | None) -> None:
    """Start a session one of whose steps cancels it while it runs, and be a worker."""
    project = configured(where, number, crash)
    with suppress(SessionConflict):
        project.cascades.start(project.CANCELLED, session_id=project.SESSION)
    worker(where, number, project)


def converse(where: Where, number: int, crash: Crash | None) -> None:
    """Start a turn of a conversation, have the next one wait for its end, and be a worker."""
    project = configured(where, number, crash)
    for turn, session_id in ((project.TURN, project.SESSION), (project.FOLLOWS, project.NEXT)):
        with suppress(SessionConflict):
            project.cascades.start(turn, session_id=session_id, thread_id=project.THREAD, queue=True)
    worker(where, number, project)


def prune(where: Where, number: int, crash: Crash | None) -> None:
    """Have the store pruned by a worker, as Beat would."""
    project = configured(where, number, crash)
    project.app.send_task("celery_cascade.prune")
    worker(where, number, project)


def cancel(where: Where, number: int, crash: Crash | None) -> None:
    """Cancel the session; somebody who has done so before is told that it has ended."""
    with suppress(SessionConflict):
        _session(where, number, crash).cancel("enough")


def suspend(where: Where, number: int, crash: Crash | None) -> None:
    """Suspend the session."""
    with suppress(SessionConflict):
        _session(where, number, crash).suspend()


def resume(where: Where, number: int, crash: Crash | None) -> None:
    """Resume the session; of one that is not suspended (any more) nothing is asked."""
    with suppress(NotResumable):
        _session(where, number, crash).resume()


def fork(where: Where, number: int, crash: Crash | None) -> None:
    """Fork the session after what has ended, and run it once more; who has done so before finds both there."""
    project = configured(where, number, crash)
    session = project.cascades.session(project.SESSION)
    with suppress(SessionConflict):
        session.fork(session_id=project.FORK)
    with suppress(SessionConflict):
        session.rerun(session_id=project.RERUN)


def recover(where: Where, number: int, crash: Crash | None) -> None:
    """What every worker does at its start and at intervals."""
    runtime = configured(where, number, crash).cascades.runtime
    recovery.recover(runtime, witness=False)
    recovery.send_due(runtime)


def expire(where: Where, number: int, crash: Crash | None) -> None:
    """The session's time is over: end it."""
    runtime = configured(where, number, crash).cascades.runtime
    _by_sql(runtime.store, sa.update(tables.heads).values(expires_at=runtime.store.now() - timedelta(days=1)))
    overtime.expire(runtime)


def before(where: Where, number: int, crash: Crash | None) -> None:
    """Sessions that have ended: old ones, each of a cascade of its own, and new ones."""
    project = configured(where, number, crash)
    for one in range(project.OLD):
        steps = [{"id": "only", "task": "order.work"}]
        project.cascades.run({"cascade": f"old-{one}", "steps": steps}, session_id=f"old-{one}")
    store = project.cascades.runtime.store
    ago = store.now() - timedelta(days=30)
    _by_sql(store, sa.update(tables.heads).values(created_at=ago, finished_at=ago))
    for one in range(project.NEW):
        project.cascades.run(project.ORDER, project.INPUTS, session_id=f"new-{one}")


def _by_sql(store: Any, statement: Any) -> None:
    store.database.transaction(lambda conn: conn.execute(statement))


def _session(where: Where, number: int, crash: Crash | None) -> Any:
    project = configured(where, number, crash)
    return project.cascades.session(project.SESSION)


def worker(where: Where, number: int, project: Any) -> None:
    """Be a worker until killed."""
    at_acks(os.getpid(), _step_of)
    worker_ready.connect(_acknowledges_at_once)
    log = where.received(number)
    task_received.connect(lambda **_: _one_more(log), weak=False)
    project.app.Worker(
        hostname=f"life-{number}@crash",
        pool=where.pool,
        concurrency=1 if where.pool == "solo" else where.concurrency,
        loglevel=logging.INFO,
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
        quiet=True,
        redirect_stdouts=False,
    ).start()


def _acknowledges_at_once(sender: Any, **_: Any) -> None:
    """Celery sends an acknowledgement when its loop comes round: on solo and AMQP that may take it ten seconds."""
    if sender.hub is not None:
        sender.hub.call_repeatedly(0.05, int)


def _one_more(file: Path) -> None:
    with file.open("ab") as log:
        log.write(b".")


def _step_of(request: Any) -> Any:
    header = request.message.headers.get("cascade_step") or {}
    return SimpleNamespace(step=header.get("step"))
