"""Everything at once on few sessions: whatever happens, the invariants hold and every session can be brought to an end.

Bounded by counts and seeded, so that a run does the same amount of work everywhere.
"""

from __future__ import annotations

import random
import subprocess
import sys
import threading
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, event

from celery_cascade.errors import ClaimLost
from celery_cascade.persistence.database_errors import Trouble, trouble
from celery_cascade.persistence.rows import ClaimedStep, StepKey
from celery_cascade.states import Halt, SuspendReason
from contract.kit import Kit, joins, queued, worker_row

THREADS, SESSIONS, OPERATIONS = 8, 20, 70
WIDTH = 6
EARLY, LATE = [f"b{number}" for number in range(WIDTH)], [f"d{number}" for number in range(WIDTH)]
#: a, then six at once, the join c, six at once, the join e.
FOLLOWERS = {"a": EARLY, "c": LATE}
ARRIVES = {name: {"c": 1} for name in EARLY} | {name: {"e": 1} for name in LATE}
TOTAL = 2 * WIDTH + 3


@dataclass
class Log:
    """What the threads saw."""

    checkpoints: Counter[tuple[str, str]] = field(default_factory=Counter)
    versions: Counter[tuple[str, int]] = field(default_factory=Counter)
    taken: Counter[tuple[str, str, int]] = field(default_factory=Counter)
    lost: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


class Actor:
    """One thread that does what workers, recoveries and operators do, in no good order."""

    def __init__(self, kit: Kit, sessions: list[str], log: Log, seed: int) -> None:
        self.kit, self.store, self.sessions, self.log = kit, kit.store, sessions, log
        self.random = random.Random(seed)
        self.held: list[ClaimedStep] = []

    def act(self) -> None:
        choice = self.random.choices(
            [self.claim, self.end, self.release, self.halt, self.revive, self.sweep, self.settle],
            weights=[30, 30, 8, 3, 8, 10, 6],
        )[0]
        choice(self.random.choice(self.sessions))

    def claim(self, session: str) -> None:
        ready = self.store.queued_steps(session)
        if not ready:
            return
        step = self.random.choice(ready)
        found = self.store.claim(
            step.key, attempt=step.attempt, token=uuid.uuid4().hex, worker="w1", runner="r", timeout=60.0
        )
        if found is not None:
            self.held.append(found)
            with self.log.lock:
                self.log.taken[(session, step.key.step, found.attempt)] += 1

    def end(self, _session: str) -> None:
        """End a claim of mine, in some way; it may have been taken away meanwhile."""
        if not self.held:
            return
        claimed = self.held.pop(self.random.randrange(len(self.held)))
        session, step = claimed.key.session_id, claimed.key.step
        dice = self.random.random()
        try:
            if dice < 0.75:
                moved = self.kit.end(claimed, *FOLLOWERS.get(step, ()), arrivals=ARRIVES.get(step))
                with self.log.lock:
                    self.log.checkpoints[(session, step)] += 1
            elif dice < 0.95:
                moved = self.kit.fail(claimed, self.random.choice([0.0, 30.0]))
            else:
                moved = self.kit.fail(claimed)
        except ClaimLost:
            with self.log.lock:
                self.log.lost += 1
            return
        with self.log.lock:
            self.log.versions[(session, moved.version)] += 1

    def release(self, session: str) -> None:
        for orphan in self.store.orphans(silent_for=None, limit=200):
            if orphan.key.session_id == session:
                if orphan.halt is not None or self.random.random() < 0.1:
                    self.store.park(orphan, reason=None if orphan.halt else SuspendReason.POISONED)
                else:
                    self.store.release(orphan, error=None)
                return

    def halt(self, session: str) -> None:
        halt = Halt.CANCELLED if self.random.random() < 0.03 else Halt.SUSPENDED
        self.store.halt(session, halt, "operator" if halt is Halt.SUSPENDED else "enough")

    def revive(self, session: str) -> None:
        self.store.settle(session, output="null")
        self.store.revive(session)

    def sweep(self, _session: str) -> None:
        self.kit.clock.forward(self.random.choice([0, 5, 61]))
        self.store.take_due(worker="w2", first=60)
        if self.random.random() < 0.5:
            self.store.wake_queued_by(["w1", "w2"])
        else:
            self.store.wake_oldest(5)
        self.store.forget_workers(3600.0)

    def settle(self, _session: str) -> None:
        for session in self.store.unsettled():
            self.store.settle(session, output="null")


def test_eight_threads_of_everything_leave_every_session_whole(kit: Kit) -> None:
    """Rules 2 to 6: no error, no step twice, no version twice, and in the end every session ends."""
    sessions = [kit.start([*queued("a"), *joins(c=WIDTH, e=WIDTH)], total=TOTAL) for _ in range(SESSIONS)]
    kit.store.add_worker(worker_row("w9"))
    log, refused = Log(), Counter[str]()
    actors = [Actor(kit, sessions, log, seed) for seed in range(THREADS)]

    def count(context: Any) -> None:
        if context.sqlalchemy_exception is not None and trouble(context.sqlalchemy_exception) is Trouble.BUSY:
            refused[str(context.original_exception).splitlines()[0][:60]] += 1

    def run(actor: Actor) -> None:
        for _ in range(OPERATIONS):
            actor.act()

    event.listen(Engine, "handle_error", count)
    try:
        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(run, actors))
    finally:
        event.remove(Engine, "handle_error", count)
    print(kit.database.family, "refused and tried again:", dict(refused), "lost claims:", log.lost)

    for session in sessions:
        kit.check(session)
    assert max(log.checkpoints.values()) == 1, "a step was checkpointed twice"
    assert max(log.versions.values()) == 1, "two changes made one version"
    assert max(log.taken.values()) == 1, "an attempt was claimed twice"
    assert sum(refused.values()) <= 5, refused  # rule 4 kept; SQLite waits in its own way

    bring_to_an_end(kit, sessions, log)


def bring_to_an_end(kit: Kit, sessions: list[str], log: Log) -> None:
    """Nothing is stuck: recovery, resume and a worker finish all but the cancelled."""
    for _ in range(40):
        for orphan in kit.store.orphans(silent_for=None):
            if not kit.store.release(orphan, error=None):
                kit.store.park(orphan, reason=None)
        for session in kit.store.unsettled():
            kit.store.settle(session, output="null")
        kit.clock.forward(3600)
        going = [session for session in sessions if kit.head(session)["status"] not in ("completed", "cancelled")]
        if not going:
            break
        for session in going:
            kit.store.revive(session)
            for step in kit.store.queued_steps(session):
                name = step.key.step
                kit.run(session, name, *FOLLOWERS.get(name, ()), arrivals=ARRIVES.get(name))
                log.checkpoints[(session, name)] += 1
    ends = Counter(kit.head(session)["status"] for session in sessions)
    assert set(ends) <= {"completed", "cancelled"}, ends
    assert ends["completed"] >= 1
    assert max(log.checkpoints.values()) == 1
    for session in sessions:
        kit.check(session)
        if kit.head(session)["status"] == "completed":
            assert set(kit.statuses(session).values()) == {"succeeded"}
            assert len(kit.rows(session)) == kit.head(session)["current_step"] == TOTAL


PROCESS = """
import sys, uuid
from celery_cascade.persistence.database import Database
from celery_cascade.persistence.rows import Checkpoint, StepKey
from celery_cascade.persistence.store import Store

url, session, *names = sys.argv[1:]
store = Store(Database(url))
for name in names:
    key, token = StepKey(session, name), uuid.uuid4().hex
    claimed = store.claim(key, attempt=1, token=token, worker="w", runner="r")
    if claimed is not None:
        store.checkpoint(Checkpoint(key=key, token=token, status="succeeded", output="1", phase=name, closed=1,
                                    arrivals={"j": 1}))
"""


def test_two_processes_that_try_the_same_steps_record_each_once(kit: Kit, contract_url: str) -> None:
    """R38: two processes, no lost update; rule 5: the join is ready once."""
    names = [f"s{number:03}" for number in range(80)]
    session = kit.start([*queued(*names), *joins(j=len(names))])
    command = [sys.executable, "-c", PROCESS, contract_url, session]
    root = Path(__file__).parents[2]
    processes = [
        subprocess.Popen([*command, *order], cwd=root, env={"PYTHONPATH": "src", "PATH": "/usr/bin:/bin"})
        for order in (names, names[::-1])
    ]
    assert [process.wait(120) for process in processes] == [0, 0]

    head, join = kit.head(session), kit.row(session, "j")
    assert (head["version"], head["current_step"], head["open_steps"]) == (81, 80, 1)
    assert (join["status"], join["needs_left"], join["sends"]) == ("queued", 0, 1)
    versions = sorted(row["version"] for row in kit.store.steps(session))
    assert versions == [*range(2, 82), 81]  # the join bears that of its last arrival
    assert kit.claim(session, "j").key == StepKey(session, "j")
    kit.check(session)
