"""Histories of the real engine on the real store: guard, runner, claims, checkpoints, recovery and rounds as they are.

Only what lies outside is simulated: who runs when, what time it is, the broker, and what the database answers. Each
process is some activities (`stage`), which hand over at every crash point outside a transaction and before every look
into the database. There the scheduler may go on, switch, crash the process, stop it for long, and more (`_trouble`).

Maps, sub-cascades and waits find their place here: their kinds of steps in `cases`, what they promise in `oracle`, and
signals, approvals and timers from outside beside the operator's acts in `_operate`.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from celery.exceptions import Ignore

from celery_cascade.crash_points import INSIDE, CrashPoint
from celery_cascade.errors import CascadeError, SessionConflict
from celery_cascade.persistence.rows import QueuedStep, WorkerRow
from celery_cascade.persistence.store import Store
from celery_cascade.sessions.session import Session
from celery_cascade.sessions.starting import StartOptions, start
from celery_cascade.tasks import driver, recovery
from celery_cascade.tasks.current import current_attempt
from celery_cascade.tasks.fate import AFTER_CRASH
from celery_cascade.tasks.heartbeat import Heartbeat
from celery_cascade.tasks.patience import patiently
from celery_cascade.tasks.rounds import EXPIRE_INTERVAL, Rounds
from celery_cascade.tasks.ticking import LATE, Witness
from simulation.cases import FLAKES, INPUTS, Case, body, random_case
from simulation.choices import Choices
from simulation.hindsight import Hindsight
from simulation.history import History
from simulation.oracle import FINAL, HEARTBEAT, Oracle
from simulation.project import (
    HEARTBEAT_INTERVAL,
    HEARTBEAT_TIMEOUT,
    MOST_WORKERS,
    ORPHAN_INTERVAL,
    PATIENCE,
    TIMER_INTERVAL,
    project,
)
from simulation.stage import Activity, Crashed, Process, Stage

BEGINNING = datetime(2026, 1, 1, tzinfo=UTC)
EVENT = 0.002  #: seconds that pass with each event
LONGEST_BODY = 12.0
MOST_EVENTS = 30_000
MOST_STEPS = 8
CASES = 300  #: different cascades: reading one takes longer than playing it
FAULTS = ("failed", "timed out and not done", "timed out but done")
OVER = frozenset({"completed", "cancelled", "expired"})
AT_REST = OVER | {"failed", "suspended"}


class World:
    """One history.

    Args:
        cases: session id -> its cascade.
        choices: all that is left to chance.
        history: what is told of it.
    """

    def __init__(self, cases: dict[str, Case], choices: Choices, history: History) -> None:
        self.cases, self.choices, self.history = cases, choices, history
        self.project, self.stage, self.inside = project(), Stage(), False
        self.oracle = Oracle(cases, self.wrong, self._may_take)
        self.hindsight = Hindsight(self.wrong)
        self.skew = 0.0  #: by which the store's clock is ahead
        self.skews = 0.0  #: by how much it was ever set back
        self.away_until = 0.0
        self.broker: list[QueuedStep] = []
        self.ever: dict[tuple[str, str, int, int], QueuedStep] = {}
        self.unwell: dict[tuple[str, str], int] = {}
        self.repaired = self.calm = self.ending = False
        self.calm_after = 60 + choices.pick(400)  #: events
        self.buried: set[str] = set()
        self.dead: set[str] = set()  #: ids of workers that are gone for certain
        self.by_id: dict[str, Process] = {}
        self.client = Process("client", self.project.runtimes[-1])
        self.project.fresh(self.client.runtime, None)
        self.born = 0
        for runtime in self.project.runtimes:
            runtime._store = Store(self.project.database)
        for runtime in self.project.runtimes[: 2 + choices.pick(MOST_WORKERS - 1)]:
            self._new_worker(runtime, 0.0)

    # -- what the world is asked by the code under test
    def store_time(self) -> datetime:
        return BEGINNING + timedelta(seconds=self.stage.now + self.skew)

    def sleep(self, seconds: float) -> None:
        self.stage.park(seconds)

    def thread(self, *, target: Callable[..., object], args: tuple[Any, ...] = (), name: str, daemon: bool) -> Any:
        me = self.stage.current
        assert me is not None

        class Thread:
            @staticmethod
            def start() -> None:
                self.stage.begin(me.owner, name, lambda: target(*args))

        return Thread

    def gone_for_certain(self, row: WorkerRow) -> bool:
        return row.id in self.dead

    def store_is_away(self) -> bool:
        me = self.stage.current
        if me is not None and me.owner.dead:
            raise Crashed
        return me is not None and self.stage.now < self.away_until

    def commit_fault(self) -> str | None:
        if self.calm or self.stage.current is None or not self.choices.flip(0.03):
            return None
        fault = FAULTS[self.choices.pick(3)]
        self._fault(f"commit {fault}")
        return fault

    def committed(self, connection: Any) -> None:
        self.oracle.look(self.sql)
        self.hindsight.look(self.oracle.heads, self.oracle.rows)

    def sql(self, statement: str) -> list[Any]:
        return list(self.project.sql(statement).fetchall())

    def visit(self, point: CrashPoint, of: Any) -> None:
        if point not in INSIDE:
            self.at(point.value)
            return
        me = self.stage.current
        if me is not None and not self.calm and self.choices.flip(0.01):
            self._crash(me.owner, point.value)
            raise Crashed

    def at(self, label: str) -> None:
        """A place between two effects: whoever is here may be stopped here, or go on."""
        me = self.stage.current
        if me is None or self.inside:
            return
        if me.owner.dead:
            raise Crashed
        self.choices.event()
        self.history.events += 1
        self.stage.now += EVENT
        self.history.now = self.stage.now
        if not self.choices.flip(0.05 if me.lasting else 0.25):
            return
        if not self.calm and self.choices.flip(0.3):
            self._trouble(me, label)
            if me.owner.dead:
                raise Crashed
        self.stage.park()

    def publish(self, runtime: Any, step: QueuedStep) -> None:
        """The broker's side of a send."""
        runtime.facts(step.key.session_id)
        fault = 0 if self.calm or not self.choices.flip(0.08) else 1 + self.choices.pick(4)
        name = f"{step.key.step}/{step.attempt}"
        if fault in (0, 2, 4):
            self._arrives(step)
            self.history.tell(f"{self._who()} sent {name}")
        if fault == 1:
            self._fault("message lost", name)
        elif fault == 2:
            self._fault("message doubled", name)
            self.stage.begin(
                self.network, f"{name} once more", lambda: self._arrives(step), after=3.0 * self.choices.pick(8)
            )
        elif fault:
            self._fault("publish failed" if fault == 3 else "publish timed out but done", name)
            raise ConnectionError("the broker does not answer")

    def _arrives(self, step: QueuedStep) -> None:
        self.broker.append(step)
        self.ever[step.key.session_id, step.key.step, step.attempt, step.epoch] = step

    def body(self, task: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """The body of every step."""
        attempt, me = current_attempt(), self.stage.current
        assert attempt is not None
        assert me is not None
        ref, case = attempt.ref, self.cases[attempt.ref.session]
        key = (ref.session, ref.step)
        me.token = attempt.token
        self.history.seen["body of a zombie"] += self.oracle.begins(*key, attempt.token)
        self.history.tell(f"{self._who()} runs {ref.step}/{ref.attempt}")
        self.at("in_body")
        if self.choices.flip(0.3):
            self.stage.park(1.0 + self.choices.pick(int(LONGEST_BODY)))
        if ref.step in case.failing and not self.repaired:
            raise ValueError("not repaired yet")
        if ref.step in case.flaky | case.patient and self.unwell.get(key, 0) < FLAKES:
            self.unwell[key] = self.unwell.get(key, 0) + 1
            if ref.step in case.flaky:
                raise ValueError("not yet")
            raise task.retry(countdown=self.choices.pick(3))
        if ref.step in case.ignored:
            raise Ignore
        return body(ref.step, args, kwargs)

    # -- what processes do
    def _new_worker(self, runtime: Any, after: float) -> None:
        self.born += 1
        process = Process(f"w{self.born}", runtime)
        self.by_id[process.name] = process
        self.stage.begin(process, "boot", lambda: self._boot(process), after=after, lasting=True)

    def _boot(self, process: Process) -> None:
        """What `Incarnation` does, its two threads included."""
        runtime = process.runtime
        self.project.fresh(runtime, None)
        row = WorkerRow(
            id=process.name, nodename=process.name, host="here", pid=self.born, pool="threads", capacity=4,
            tasks=json.dumps(["tasks.body"]), queues=json.dumps(["celery"]),
        )  # fmt: skip
        patiently(lambda: runtime.store.add_worker(row), seconds=None, what="boot")
        self.project.fresh(runtime, process.name)
        process.witness = Witness(interval=HEARTBEAT_INTERVAL, timeout=HEARTBEAT_TIMEOUT, clock=lambda: self.stage.now)
        heartbeat = Heartbeat(runtime, row, process.witness)
        heartbeat._stop = _Ticks(self)  # type: ignore[assignment]
        rounds = Rounds(runtime, process.witness, _NoFacts(self), clock=lambda: self.stage.now)  # type: ignore[arg-type]
        self.stage.begin(process, "heartbeat", heartbeat._run, lasting=True)
        self.stage.begin(process, "rounds", rounds._run, lasting=True)
        process.up = True
        self.history.tell(f"{process} is up")

    def _start(self, session: str) -> None:
        try:
            start(self.client.runtime, definition(self.cases[session]), INPUTS, StartOptions(session_id=session))
        except SessionConflict:
            self.history.tell(f"{session} is there already")
        except CascadeError as error:
            self.history.tell(f"{session} not started: {error.message}")

    def _operate(self, session: str, act: str) -> None:
        """An operator, by our own API; what is refused is refused."""
        self.history.tell(f"operator: {act} {session}")
        try:
            handle = Session(self.client.runtime, session)
            {"cancel": handle.cancel, "suspend": handle.suspend, "resume": handle.resume}[act]()
        except CascadeError as error:
            self.history.tell(f"refused: {error.message}")

    def _recover(self, process: Process) -> None:
        """Rounds out of turn, and beside those of others."""
        try:
            recovery.recover(process.runtime, witness=process.witness.may_judge)
            recovery.send_due(process.runtime)
        except CascadeError as error:
            self.history.tell(f"{process}: {error.message}")

    # -- what goes wrong
    def _fault(self, name: str, what: str = "") -> None:
        self.history.fault(name, f"{self._who()} {what}")

    def _who(self) -> str:
        me = self.stage.current
        return "" if me is None else f"{me.owner}"

    def wrong(self, what: str) -> None:
        if self.history.problem is None:
            self.history.went_wrong(AssertionError(what))

    def _trouble(self, me: Activity, label: str) -> None:
        kind, process = self.choices.pick(14), me.owner
        if kind < 2:
            self._crash(process, label)
        elif kind in (2, 12, 13) and process is not self.client:
            process.back_at = self.stage.now + 2.0 + 6.0 * self.choices.pick(6)
            self._fault("pause", f"at {label} until {process.back_at:.1f} s")
        elif kind == 3:
            step = (20.0, -20.0, 4.0, -4.0)[self.choices.pick(4)]
            self.skew += step
            self.skews += max(0.0, -step)
            self._fault("clock step", f"{step:+.0f} s")
        elif kind == 4:
            self.away_until = self.stage.now + 1.0 + 8.0 * self.choices.pick(4)
            self._fault("store away", f"until {self.away_until:.1f} s")
        elif kind == 5:
            ups = [one for one in self.by_id.values() if one.up and not one.dead and one.back_at is None]
            for one in ups[: 1 + self.choices.pick(2)]:
                self.stage.begin(one, "recovery", lambda one=one: self._recover(one))  # type: ignore[misc]
            self.history.faults["rounds out of turn"] += 1
        elif kind in (6, 7):
            session = list(self.cases)[self.choices.pick(len(self.cases))]
            act = ("suspend", "resume", "suspend", "resume", "cancel")[self.choices.pick(5)]
            self.history.faults["operator"] += 1
            self.stage.begin(self.client, act, lambda: self._operate(session, act))
        else:
            seconds = 0.1 * 4.0 ** self.choices.pick(5)
            self._fault("slow", f"{me.what} at {label} for {seconds:.1f} s")
            self.stage.park(seconds)

    def _crash(self, process: Process, label: str) -> None:
        self._fault("crash", f"at {label}")
        process.dead, process.up = True, False
        if process is not self.client and self.choices.pick(2):
            self.dead.add(process.name)  # on this machine: whoever looks sees it

    def _bury(self) -> None:
        """Unwind what the dead were at; their messages come again or are lost with them; others take their place."""
        gone = self.stage.reap()
        for one in gone:
            if one.message is not None and self.choices.pick(3) < 2:
                self.broker.append(one.message)
        for process in {one.owner.name: one.owner for one in gone}.values():
            if process is self.client or process.name == "client":
                self.client = Process("client", process.runtime)
                self.project.fresh(process.runtime, None)
            elif process.name not in self.buried:
                self.buried.add(process.name)
                self._new_worker(process.runtime, 2.0 * self.choices.pick(8))

    def _may_take(self, worker: str | None, token: str) -> str | None:
        """Why a running step must not be taken from this worker; None if it may."""
        me = self.stage.current
        holder = self.by_id[worker or ""]
        if me is None or holder.dead:
            self.history.seen["takeover"] += 1
            return None
        if me.owner is holder:
            runs = any(one.token == token for one in self.stage.activities if one.owner is holder and one is not me)
            return f"it still runs there ({me.what} gave it back)" if runs else None
        [[beat]] = self.sql(f"SELECT heartbeat_at FROM cascade_workers WHERE id = '{worker}'")
        silent = (self.store_time() - datetime.strptime(beat, HEARTBEAT).replace(tzinfo=UTC)).total_seconds()
        self.history.seen["takeover"] += 1
        if silent < HEARTBEAT_TIMEOUT - 0.01:
            return f"it lives, and was heard of {silent:.1f} s ago"
        return None

    # -- the scheduler
    def play(self) -> None:
        self.network = Process("network", None)
        for session in self.cases:
            self.stage.begin(self.client, f"start {session}", lambda session=session: self._start(session))  # type: ignore[misc]
        last: Activity | None = None
        while self.history.problem is None:
            self.choices.event()
            self._bury()
            if not self.calm and self.history.events >= self.calm_after:
                self._calm_down()
            self._wake_stopped()
            if self.history.events > MOST_EVENTS or (self.calm and self.stage.now > self.deadline):
                self.wrong(f"stuck: not at an end at {self.stage.now:.1f} s: {self._statuses()}")
            elif self.broker and self._deliver():
                continue
            elif (chosen := self._chosen(last)) is not None:
                last = chosen
                self.stage.resume(chosen)
                if chosen.done and chosen.error is not None:
                    self.wrong(f"{chosen.what} of {chosen.owner}: {chosen.error!r}")
            elif self._is_over():
                break
            else:
                self._pass_time()

    def _chosen(self, last: Activity | None) -> Activity | None:
        ready = [one for one in self.stage.activities if one.wake <= self.stage.now and one.owner.back_at is None]
        if not ready:
            return None
        ready.sort(key=lambda one: (one is not last, one.wake, one.number))
        return ready[self.choices.pick(len(ready))] if len(ready) > 1 else ready[0]

    def _deliver(self) -> bool:
        """A message reaches some worker; acknowledged when its task is done."""
        ups = [one for one in self.by_id.values() if one.up and not one.dead and one.back_at is None]
        if not ups or self.choices.flip(0.3):
            return False
        step = self.broker.pop(self.choices.pick(len(self.broker)))
        process = ups[self.choices.pick(len(ups))]
        name = f"{step.key.step}/{step.attempt}"
        self.history.tell(f"{process} receives {name}")
        self.stage.begin(process, name, lambda: driver.run_step(process.runtime, step)).message = step
        return True

    def _pass_time(self) -> None:
        moments = [one.wake for one in self.stage.activities if one.owner.back_at is None]
        moments += [one.back_at for one in self.by_id.values() if one.back_at is not None]
        self.stage.now = self.history.now = max(self.stage.now, min(moments, default=self.stage.now))

    def _wake_stopped(self) -> None:
        for one in self.by_id.values():
            if one.back_at is not None and (self.calm or one.back_at <= self.stage.now):
                one.back_at = None
                self.history.tell(f"{one} is back")

    # -- once faults stop
    def _calm_down(self) -> None:
        self.calm = True
        self.history.tell("faults stop")
        self.away_until = 0.0
        self.deadline = self._bound()

    def _bound(self) -> float:
        """By when all has ended: the settings, what is due at the latest, and how long the steps themselves take."""
        now = self.store_time()
        waits = [
            (datetime.strptime(one[0], HEARTBEAT).replace(tzinfo=UTC) - now).total_seconds()
            for one in self.sql("SELECT wake_at FROM session_steps WHERE wake_at IS NOT NULL")
        ]
        found = HEARTBEAT_TIMEOUT * 2 + HEARTBEAT_INTERVAL * LATE + ORPHAN_INTERVAL * 2 + TIMER_INTERVAL * 2
        slow = 4 * HEARTBEAT_INTERVAL + 16.0 + 0.1 * 4.0**5  # what was begun before faults stopped
        steps = sum(len(case.plan.steps) for case in self.cases.values())
        longest = steps * (LONGEST_BODY + 1.0 + FLAKES * 3.0 + TIMER_INTERVAL * 2) + AFTER_CRASH
        return self.stage.now + max([0.0, *waits]) + self.skews + found + slow + longest + PATIENCE + EXPIRE_INTERVAL

    def _statuses(self) -> dict[str, str]:
        return {session: head.status for session, head in self.oracle.heads.items()}

    def _is_over(self) -> bool:
        """Whether nothing is left to happen; whoever has to act once faults have stopped is set going."""
        if self.broker or any(not one.lasting for one in self.stage.activities):
            return False
        if not self.calm:
            if set(self.cases) != self.oracle.heads.keys() or not AT_REST.issuperset(self._statuses().values()):
                return False
            self._calm_down()
        acts = 0
        for session in self.cases:
            head = self.oracle.heads.get(session)
            if head is None:
                acts += 1
                self.stage.begin(self.client, "start", lambda session=session: self._start(session))  # type: ignore[misc]
            elif head.status in ("suspended", "failed"):
                acts += 1
                self.repaired = True
                self.stage.begin(self.client, "resume", lambda session=session: self._operate(session, "resume"))  # type: ignore[misc]
        if acts:
            self.deadline = self._bound()
            return False
        if not OVER.issuperset(self._statuses().values()):
            return False
        return self._check_end()

    def _check_end(self) -> bool:
        """The oracle's last look; then every message that was ever sent comes once more, and must do nothing."""
        if not self.ending:
            self.ending = True
            for session in self.cases:
                head = self.oracle.heads[session]
                self.history.seen[head.status] += 1
                [[output]] = self.sql(f"SELECT output FROM session_states WHERE session_id = '{session}'")
                self.oracle.check_end(session, self.sql, output)
                self.hindsight.check(session, self.project.database, self.cases[session].plan)
            self.before = (dict(self.oracle.rows), dict(self.oracle.heads), sum(self.oracle.bodies.values()))
            self.broker += [self.ever[key] for key in sorted(self.ever)]
            return not self.broker
        self.oracle.look(self.sql)
        if self.before != (self.oracle.rows, self.oracle.heads, sum(self.oracle.bodies.values())):
            self.wrong("repeated: a message that was left did something")
        if any(row.status not in FINAL for row in self.oracle.rows.values()):
            self.wrong("lost: a step is open in a session that has ended")
        return True


class _Ticks:
    """The heartbeat's event: waits in virtual time, and now and then for too long."""

    def __init__(self, world: World) -> None:
        self._world = world

    def wait(self, seconds: float) -> bool:
        world = self._world
        if not world.calm and world.choices.flip(0.03):
            seconds *= 2.0 + world.choices.pick(3)
            world._fault("slow heartbeat")
        world.sleep(seconds)
        return False


class _NoFacts:
    """No signal tells these rounds anything."""

    def __init__(self, world: World) -> None:
        self._world = world

    def wait(self, seconds: float) -> None:
        self._world.sleep(max(0.001, seconds))


class _Complaints(logging.Handler):
    """An error that our code swallows and only logs is a finding."""

    def __init__(self, world: World) -> None:
        super().__init__(logging.ERROR)
        self._world = world

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and not isinstance(record.exc_info[1], CascadeError):
            self._world.wrong(f"{record.getMessage()}: {record.exc_info[1]!r}")


def definition(case: Case) -> dict[str, Any]:
    """The cascade as a mapping that a user would start."""
    steps = []
    for step in case.plan.cascade.steps:
        arguments = step.arguments if isinstance(step.arguments, Mapping) else list(step.arguments)
        one: dict[str, Any] = {"id": step.id, "task": step.task, "needs": list(step.needs), "with": arguments}
        if step.when is not None:
            one["when"] = step.when
        if step.retry.max_attempts > 1:
            one["retry"] = {"max_attempts": step.retry.max_attempts, "delay": step.retry.delay}
        steps.append(one)
    inputs = {"yes": {"type": "boolean"}, "no": {"type": "string"}}
    written = {"cascade": "random", "inputs": inputs, "steps": steps}
    return written | ({"output": case.plan.cascade.output} if case.plan.cascade.has_output else {})


def play(
    seed: int, *, keep: Mapping[int, int] | None = None, dropped: Collection[int] = (), telling: bool = False
) -> History:
    """The history of a seed, or what is left of it."""
    choices, history = Choices(seed, keep), History(seed, telling)
    cases = {
        f"session-{number}": random_case((seed + 7 * number) % CASES, frozenset(dropped), most=MOST_STEPS, broken=False)
        for number in range(1 + choices.flip(0.3))
    }
    history.steps = sum(len(case.plan.steps) for case in cases.values())
    made = project()
    world = World(cases, choices, history)
    ours, celerys, complaints = logging.getLogger("celery_cascade"), logging.getLogger("celery"), _Complaints(world)
    before = (ours.propagate, ours.level, celerys.disabled, celerys.level)
    ours.addHandler(complaints)
    ours.propagate = False
    celerys.setLevel(logging.CRITICAL + 1)
    try:
        with made.playing(world):
            try:
                world.play()
            finally:
                world.stage.close()
    except Exception as error:  # noqa: BLE001  whatever breaks is a finding
        history.went_wrong(error)
    finally:
        ours.removeHandler(complaints)
        ours.propagate = before[0]
        celerys.setLevel(before[3])
    history.made = choices.made
    return history
