"""Histories of the pure engine on the model store: workers that die, stop and come back, and a broker that lies.

What a process does is a generator that yields between any two effects: there the scheduler may go on with somebody
else, crash the process (the generator is closed) or stop it for long. Time is virtual. Maps, sub-cascades and waits
find their place here: a new kind of effect is one more generator in this file, and what it commits a method of `Store`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Generator, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

from celery_cascade.engine import advance as engine
from celery_cascade.engine.decision import Ended, Fail, Queue, Skip, Started
from celery_cascade.engine.retry import after_failure, crash_delay, error_names
from celery_cascade.states import Halt, SessionStatus, StepStatus
from simulation.cases import FLAKES, Case, body, expected, expected_output, random_case
from simulation.choices import Choices
from simulation.history import History, Wrong
from simulation.model import Lost, Store

Activity = Generator[float, None, Any]

HEARTBEAT_TIMEOUT, ROUND, MAX_CRASHES, AFTER_FAILED_PUBLISH = 15.0, 2.0, 5, 5.0
CASES = 20_000  #: different cascades
TICK = 0.01  #: seconds that pass with each effect
LONGEST_BODY = 20.0
MOST_EVENTS = 5_000
NAMES = error_names(ValueError())


class Worker:
    """One incarnation of a worker's process."""

    __slots__ = ("alive", "back_at", "name", "silent_since")

    def __init__(self, name: str) -> None:
        self.name, self.alive = name, True
        self.silent_since: float | None = None  #: None = it beats
        self.back_at = 0.0

    def __repr__(self) -> str:
        return self.name


class Running:
    """An activity under way."""

    __slots__ = ("holds", "wake", "what", "who", "work")

    def __init__(self, who: Worker, what: str, work: Activity) -> None:
        self.who, self.what, self.work, self.wake = who, what, work, 0.0
        self.holds: tuple[str, int] | None = None  #: the message that is not acknowledged


class World:
    """One history.

    Args:
        case: the cascade.
        choices: all that is left to chance.
        history: what is told of it.
    """

    def __init__(self, case: Case, choices: Choices, history: History) -> None:
        self.case, self.choices, self.history = case, choices, history
        self.store = Store(case)
        self.workers = [Worker(f"w{number}") for number in range(2 + choices.pick(2))]
        self.client, self.network = Worker("client"), Worker("network")
        self.born = len(self.workers)
        self.broker: list[tuple[str, int]] = []
        self.ever: set[tuple[str, int]] = set()
        self.activities: list[Running] = []
        self.token = 0
        self.begun: set[int] = set()
        self.bodies: Counter[str] = Counter()
        self.unwell: Counter[str] = Counter()
        self.faults_until = 30 + choices.pick(200)  #: events
        self.calm = False

    # -- effects
    def _commit(self, work: Callable[[], Any]) -> Generator[float, None, Any]:
        """A transaction; when its answer is lost it is made again, whether it was done or not."""
        while not self.calm and self.choices.flip(0.02):
            if self.choices.pick(2):
                self.history.fault("commit timed out but done")
                with suppress(Lost):
                    work()
            else:
                self.history.fault("commit failed")
            yield TICK
        self.store.now = self.history.now
        return work()

    def _publish(self, names: Collection[tuple[str, int]]) -> Activity:
        for message in names:
            yield 0.0
            fault = 0 if self.calm or not self.choices.flip(0.06) else 1 + self.choices.pick(4)
            if fault in (0, 2, 3):
                self.broker.append(message)
                self.ever.add(message)
                self.history.tell(f"sent {message[0]}/{message[1]}")
            if fault == 1:
                self.history.fault("message lost", message[0])
            elif fault == 2:
                self.begin(self.network, f"{message[0]}/{message[1]} once more", self._late(message))
                self.history.fault("message doubled", message[0])
            elif fault in (3, 4):
                self.history.fault("publish timed out but done" if fault == 3 else "publish failed", message[0])
                yield 0.0
                self.store.now = self.history.now
                self.store.wake_later(message[0], AFTER_FAILED_PUBLISH)

    def _late(self, message: tuple[str, int]) -> Activity:
        yield 2.0 * self.choices.pick(12)
        self.broker.append(message)

    # -- what processes do
    def start(self) -> Activity:
        plan, store = self.case.plan, self.store
        decision = engine.advance(plan, store.facts(engine.reads_after(plan, Started())), Started())
        names = yield from self._commit(lambda: store.start(decision))
        yield 0.0
        yield from self._publish([(name, 1) for name in names])
        if len(decision.skip) == len(plan.steps):
            yield from self._commit(store.settle)

    def receive(self, worker: Worker, name: str, attempt: int) -> Activity:
        """A worker has a message: claim, body, checkpoint, publish."""
        store = self.store
        yield 0.0
        self.token += 1
        token = self.token
        if not (yield from self._commit(lambda: store.claim(name, attempt, token, worker.name))):
            return
        self.history.tell(f"{worker} claimed {name}/{attempt}, token {token}")
        yield 0.0
        try:
            yield from self._run(worker, name, token)
        except Lost:
            self.history.seen["late writer refused"] += 1
            self.history.tell(f"{worker} lost its claim of {name}, token {token}")

    def _run(self, worker: Worker, name: str, token: int) -> Activity:
        store, row = self.store, self.store.rows[name]
        call = row.call
        if call is None:
            match store.prepared(name):
                case Queue(call=call):
                    pass
                case Skip(reason=reason):
                    yield from self._checkpoint(name, token, Ended(name, skipped=True), reason)
                    return
                case Fail():
                    yield from self._setback(name, token, delay=None, failures=1)
                    return
        yield 0.0
        failures = row.failures
        self._begins(name, token)
        self.history.tell(f"{worker} runs {name}, token {token}")
        yield LONGEST_BODY * 0.2 * self.choices.pick(6) if self.choices.flip(0.3) else TICK
        assert call is not None
        if name in self.case.failing and not store.repaired:
            yield from self._setback(name, token, delay=None, failures=1)
        elif name in self.case.flaky and self.unwell[name] < FLAKES:
            self.unwell[name] += 1
            delay = after_failure(self.case.plan.steps[name].retry, failures + 1, NAMES)
            yield from self._setback(name, token, delay=delay, failures=1)
        elif name in self.case.patient and self.unwell[name] < FLAKES:
            self.unwell[name] += 1
            yield from self._setback(name, token, delay=float(self.choices.pick(3)), failures=0)
        elif name in self.case.ignored:
            yield from self._checkpoint(name, token, Ended(name, skipped=True), "ignored")
        else:
            yield from self._checkpoint(name, token, Ended(name, body(name, call.args, call.kwargs)), None)

    def _begins(self, name: str, token: int) -> None:
        """A body's effect: once a claim, and but for a zombie's never after the step has ended.

        So a step's bodies are at most 1, and 1 more for each attempt that failed or asked for a retry, and for each
        that recovery took from a worker that was dead or silent for the timeout (`_take` sees that it was).
        """
        row = self.store.rows[name]
        holds = row.status is StepStatus.RUNNING and row.token == token
        if token in self.begun:
            raise Wrong(f"repeated: the body of {name} begins twice under token {token}")
        self.begun.add(token)
        self.bodies[name] += 1
        self.history.seen["body of a zombie"] += not holds
        if not holds and token not in self.store.fenced:
            raise Wrong(f"repeated: the body of {name} begins while it is {row.status}, and nobody took it away")
        most = 1 + self.store.taken[name]
        if self.bodies[name] > most:
            raise Wrong(f"repeated: {name} began {self.bodies[name]} times, at most {most} is right")

    def _checkpoint(self, name: str, token: int, ended: Ended, reason: str | None) -> Activity:
        yield 0.0
        plan, store = self.case.plan, self.store
        decision = engine.advance(plan, store.facts(engine.reads_after(plan, ended)), ended)
        names = yield from self._commit(
            lambda: store.checkpoint(name, token, decision, output=ended.output, reason=reason)
        )
        self.history.tell(f"checkpoint of {name}, token {token}")
        yield 0.0
        yield from self._publish([(name, 1) for name in names])
        yield from self._settle()

    def _setback(self, name: str, token: int, *, delay: float | None, failures: int) -> Activity:
        yield 0.0
        store, attempt = self.store, self.store.tokens[token][1]
        sends = yield from self._commit(lambda: store.setback(name, token, delay=delay, failures=failures))
        self.history.tell(f"setback of {name}, token {token}: again in {delay}")
        if sends:
            yield from self._publish([(name, attempt + 1)])
        yield from self._settle()

    def _settle(self) -> Activity:
        store = self.store
        if store.halt is None and (store.open_steps or store.status is not SessionStatus.ACTIVE):
            return
        yield 0.0
        status = yield from self._commit(store.settle)
        if status is not None:
            self.history.tell(f"the session is {status}")

    def rounds(self, worker: Worker) -> Activity:
        """Recovery, what is due, what was left unsettled: everybody may do it, at any time, twice."""
        store = self.store
        found = [
            (name, row.token, row.worker, row.crashes, row.attempt)
            for name, row in store.rows.items()
            if row.status is StepStatus.RUNNING and self._looks_dead(row.worker)
        ]
        for name, token, owner, crashes, attempt in found:
            yield self._stall("recovery")
            assert token is not None
            poisoned = crashes + 1 >= MAX_CRASHES
            if poisoned or store.halt is not None:
                take = partial(store.park, name, token, poisoned=poisoned)
            else:
                take = partial(store.release, name, token, delay=crash_delay(crashes + 1))
            if not (yield from self._commit(partial(self._take, name, owner, take))):
                continue
            self.history.seen["takeover"] += 1
            self.history.tell(f"{worker} took {name} from {owner}, token {token}")
            if poisoned or store.halt is not None:
                yield from self._settle()
            elif crashes == 0:
                yield from self._publish([(name, attempt + 1)])
        yield 0.0
        due = yield from self._commit(store.take_due)
        yield from self._publish(due)
        yield from self._settle()

    def _stall(self, what: str) -> float:
        """Seconds between a look and what is done about it: what was seen is old by then."""
        if self.calm or not self.choices.flip(0.4):
            return 0.0
        self.history.fault("slow", what)
        return 1.0 + 2.0 * self.choices.pick(4)

    def _take(self, name: str, owner: str | None, take: Callable[[], bool]) -> bool:
        """Under the row's lock the heartbeat is looked at once more; then it is true, or the history is wrong."""
        holder = self.store.rows[name].worker
        if not self._looks_dead(owner) or not take():
            return False
        for worker in self.workers:
            silent = 0.0 if worker.silent_since is None else self.history.now - worker.silent_since
            if worker.name == holder and silent <= HEARTBEAT_TIMEOUT:
                raise Wrong(f"repeated: {name} was taken from {holder}, which lives")
        return True

    def _looks_dead(self, name: str | None) -> bool:
        for worker in self.workers:
            if worker.name == name:
                since = worker.silent_since
                return since is not None and self.history.now - since > HEARTBEAT_TIMEOUT
        return True  # it is gone for certain

    def operator(self, act: Callable[[], Any]) -> Activity:
        yield 0.0
        yield from self._commit(act)
        yield from self._settle()

    def resume(self) -> Activity:
        again = yield from self._commit(self.store.revive)
        self.history.tell(f"resumed: {again}")
        yield 0.0
        yield from self._publish(again)
        yield from self._settle()

    # -- the scheduler
    def begin(self, who: Worker, what: str, work: Activity) -> Running:
        running = Running(who, what, work)
        self.activities.append(running)
        return running

    def play(self) -> None:
        self.begin(self.client, "start", self.start())
        while True:
            self.choices.event()
            if not self.calm and self.history.events >= self.faults_until:
                self._calm_down()
            if not self._move() and not self._pass_time():
                if not self.calm:
                    self._calm_down()
                elif not self._go_on():
                    break
            if self.history.events > MOST_EVENTS:
                raise Wrong(f"stuck: {MOST_EVENTS} events and no end")
        self._check_end()

    def _move(self) -> bool:
        """One effect of somebody; False if nobody can do anything now."""
        now, choices = self.history.now, self.choices
        ready = [one for one in self.activities if one.wake <= now and one.who.silent_since is None]
        if self.broker and (not ready or choices.flip(0.3)):
            self._deliver()
            return True
        if not ready:
            return False
        one = ready[0] if len(ready) == 1 or not choices.flip(0.4) else ready[choices.pick(len(ready))]
        if not self.calm and choices.flip(0.08):
            self._trouble(one)
            return True
        self.history.events += 1
        self.history.now += TICK
        try:
            one.wake = self.history.now + next(one.work)
        except StopIteration:
            self.activities.remove(one)
        return True

    def _deliver(self) -> None:
        """Some message reaches somebody; a message is acknowledged only when its step is done."""
        up = [worker for worker in self.workers if worker.silent_since is None]
        if not up:
            if self.calm:
                raise Wrong("stuck: nobody is up")
            self._come_back()
            return
        name, attempt = message = self.broker.pop(self.choices.pick(len(self.broker)))
        worker = up[self.choices.pick(len(up))]
        self.begin(worker, f"{name}/{attempt}", self.receive(worker, name, attempt)).holds = message

    def _trouble(self, one: Running) -> None:
        kind, worker = self.choices.pick(9), one.who
        if kind >= 6 or worker is self.network:
            one.wake = self.history.now + 0.1 * 4.0 ** self.choices.pick(4)
            self.history.fault("slow", f"{one.what} of {worker} until {one.wake:.1f} s")
        elif kind < 2:
            self._crash(worker)
        elif kind == 2 and worker is not self.client:
            worker.silent_since = self.history.now
            worker.back_at = self.history.now + 1.0 + 8.0 * self.choices.pick(6)
            self.history.fault("pause", f"{worker} until {worker.back_at:.1f} s")
        elif kind == 3:
            for _ in range(1 + self.choices.pick(2)):  # two at once
                self._begin_rounds()
            self.history.faults["rounds out of turn"] += 1
        elif kind == 4:
            act = (Halt.SUSPENDED, Halt.SUSPENDED, Halt.CANCELLED)[self.choices.pick(3)]
            self.history.fault("operator", str(act))
            self.begin(self.client, str(act), self.operator(lambda: self.store.ask_to_halt(act)))
        else:
            self.history.fault("operator", "resume")
            self.begin(self.client, "resume", self.resume())

    def _crash(self, worker: Worker) -> None:
        self.history.fault("crash", repr(worker))
        for one in [one for one in self.activities if one.who is worker]:
            one.work.close()
            self.activities.remove(one)
            if one.holds is not None and self.choices.pick(3) < 2:
                self.broker.append(one.holds)  # not acknowledged, so it comes again; or it is lost with its worker
        if worker is self.client:
            return
        self.workers.remove(worker)
        self.workers.append(Worker(f"w{self.born}"))
        self.born += 1

    def _begin_rounds(self) -> None:
        up = [worker for worker in self.workers if worker.silent_since is None]
        if up:
            worker = up[self.choices.pick(len(up))]
            self.begin(worker, "rounds", self.rounds(worker))

    def _come_back(self) -> bool:
        """The next of those that were stopped goes on, as if nothing had happened: it does not know."""
        stopped = [worker for worker in self.workers if worker.silent_since is not None]
        if not stopped:
            return False
        first = min(stopped, key=lambda worker: worker.back_at)
        self.history.now = max(self.history.now, first.back_at)
        first.silent_since = None
        self.history.tell(f"{first} is back")
        return True

    def _pass_time(self) -> bool:
        """To the next moment at which something is due; False if nothing ever will be."""
        moments = [one.wake for one in self.activities if one.who.silent_since is None]
        looks = [row.wake_at for row in self.store.rows.values() if row.wake_at is not None]
        for row in self.store.rows.values():
            if row.status is StepStatus.RUNNING and not any(one.name == row.worker for one in self.workers):
                looks.append(self.history.now)
        for worker in self.workers:
            if worker.silent_since is not None:
                moments.append(worker.back_at)
                looks.append(worker.silent_since + HEARTBEAT_TIMEOUT + TICK)
        if self.store.halt is not None:
            looks.append(self.history.now)
        if self.store.open_steps == 0 and self.store.status is SessionStatus.ACTIVE:
            looks.append(self.history.now)
        looks = [max(moment, self.history.now) + ROUND * 0.5 for moment in looks]
        if not moments and not looks:
            return False
        soonest = min([*moments, *looks])
        self.history.now = max(self.history.now, soonest)
        for worker in self.workers:
            if worker.silent_since is not None and worker.back_at <= self.history.now:
                worker.silent_since = None
                self.history.tell(f"{worker} is back")
        if looks and min(looks) <= self.history.now:
            self._begin_rounds()
            if not self.calm and self.choices.flip(0.3):
                self._begin_rounds()
        return True

    # -- once faults stop
    def _calm_down(self) -> None:
        self.calm = True
        self.history.tell("faults stop")
        while self._come_back():
            pass
        self.deadline = self._bound()

    def _bound(self) -> float:
        """By when everything has ended: a dead worker is found, every message due is sent, every step runs."""
        waits = [row.wake_at - self.history.now for row in self.store.rows.values() if row.wake_at is not None]
        steps = len(self.case.plan.steps)
        once = HEARTBEAT_TIMEOUT + 2 * ROUND + crash_delay(MAX_CRASHES) + LONGEST_BODY
        return self.history.now + max([0.0, *waits]) + once + steps * (LONGEST_BODY + FLAKES * 2.0 + 3 * ROUND)

    def _go_on(self) -> bool:
        """Nothing is left to happen by itself; whether an operator or the client has something to do."""
        if self.history.now > self.deadline:
            raise Wrong(f"stuck: ended at {self.history.now:.1f} s, the bound is {self.deadline:.1f} s")
        status = self.store.status
        if status is None:
            self.begin(self.client, "start", self.start())
        elif status in (SessionStatus.SUSPENDED, SessionStatus.FAILED):
            self.store.repaired = True
            self.begin(self.client, "resume", self.resume())
        elif status is SessionStatus.ACTIVE:
            raise Wrong(f"lost: the session is active, {self.store.open_steps} steps are open, and nothing is due")
        else:
            return False
        self.deadline = self._bound() + LONGEST_BODY
        return True

    def _check_end(self) -> None:
        store, ends = self.store, self.store.ends()
        self.history.seen[str(store.status)] += 1
        if set(ends) != set(self.case.plan.steps) and store.status is SessionStatus.COMPLETED:
            raise Wrong(f"lost: steps without an end: {sorted(set(self.case.plan.steps) - set(ends))}")
        if store.open_steps:
            raise Wrong(f"lost: {store.open_steps} steps are open at the end")
        right = expected(self.case)
        well = {name: end for name, end in ends.items() if end.status is not StepStatus.CANCELLED}
        for name, end in well.items():
            if end != right[name] and end.status is not StepStatus.FAILED:
                raise Wrong(f"{name} came to {end}, not to {right[name]}")
        if store.status is SessionStatus.COMPLETED and store.output() != expected_output(self.case):
            raise Wrong(f"the output is {store.output()!r}, not {expected_output(self.case)!r}")
        self._check_late_messages(ends)

    def _check_late_messages(self, ends: Mapping[str, Any]) -> None:
        """No message that was ever sent does anything any more, and no zombie's token opens anything."""
        for name, attempt in sorted(self.ever):
            if self.store.claim(name, attempt, -1, None):
                raise Wrong(f"repeated: the message {name}/{attempt} still does something")
        if self.store.ends() != ends:
            raise Wrong("repeated: a late message changed something")


def play(
    seed: int, *, keep: Mapping[int, int] | None = None, dropped: Collection[int] = (), telling: bool = False
) -> History:
    """The history of a seed, or what is left of it."""
    case = random_case(seed % CASES, frozenset(dropped))
    choices, history = Choices(seed, keep), History(seed, telling)
    history.steps = len(case.plan.steps)
    world = World(case, choices, history)
    try:
        world.play()
    except Exception as error:  # noqa: BLE001  whatever breaks is a finding
        history.went_wrong(error)
    history.made = choices.made
    return history
