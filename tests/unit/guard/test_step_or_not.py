"""Which calls are the step, and which only look like it."""

from __future__ import annotations

import timeit
import uuid

import pytest
from celery import Task, chain, group

from celery_cascade.tasks.current import current_attempt
from unit.guard.recording import Published, deliver, deliver_step, guarded_app, new_app, step_headers


@pytest.fixture
def proj():
    app, runner = guarded_app()

    @app.task(shared=False, name="add", bind=True)
    def add(self, x=0, y=0):
        return x + y

    return app, runner


def test_a_message_without_our_header_passes_straight_through(proj):
    """R87: no claim, no SQL."""
    app, runner = proj
    assert deliver(app, "add", [1, 2]).retval == 3
    assert runner.told == []


def test_the_claim_brings_the_arguments_and_the_retries(proj):
    """Guard: the message of a step is empty; `self.request` shows what the body really got."""
    app, runner = proj
    seen = {}

    @app.task(shared=False, name="look", bind=True)
    def look(self, *args, **kwargs):
        seen.update(args=self.request.args, kwargs=self.request.kwargs, retries=self.request.retries)
        return args[0] + kwargs["y"]

    runner.args, runner.kwargs, runner.retries = (1,), {"y": 2}, 3
    assert deliver_step(app, "look").retval == 3
    assert seen == {"args": [1], "kwargs": {"y": 2}, "retries": 3}


def test_a_step_that_cannot_be_claimed_is_dropped_without_a_trace(proj):
    """Guard: done already, running elsewhere, cancelled: acked, nothing stored, nothing dispatched."""
    app, runner = proj
    runner.offers = False
    done = deliver_step(app, "add", chain=[app.signature("add")])
    assert (done.state, done.stored) == ("IGNORED", "PENDING")
    assert runner.words == ["claim"]


def test_an_eager_call_with_the_header_is_the_step(proj):
    """Guard: there the header stays in `request.headers`."""
    app, runner = proj
    runner.args = [2, 2]
    task_id = str(uuid.uuid4())
    result = app.tasks["add"].apply(task_id=task_id, headers=step_headers(task_id))
    assert (result.get(), result.state) == (4, "SUCCESS")
    assert runner.words == ["claim", "succeed"]


@pytest.mark.parametrize(
    "header",
    [{"task_id": "another"}, {}, None, "text", {"task_id": None}],
    ids=["another's", "empty", "none", "text", "null"],
)
def test_a_header_that_is_not_this_messages_own_makes_no_step(proj, header):
    """Guard: somebody sent `headers=self.request.headers` along."""
    app, runner = proj
    assert deliver(app, "add", [1, 2], cascade_step=header).retval == 3
    assert runner.told == []


def test_a_header_of_a_version_that_we_cannot_read_is_left_to_others(proj):
    """Guard: running the body with the empty arguments of the message would be worse than waiting."""
    app, runner = proj
    done = deliver(app, "add", task_id="t", cascade_step={"task_id": "t", "session": "order-7", "shard": 3})
    assert done.state == "IGNORED"
    assert runner.told == []


def test_a_direct_call_is_no_step(proj):
    app, runner = proj
    assert app.tasks["add"](1, 2) == 3
    assert app.tasks["add"].run(1, 2) == 3
    assert runner.told == []


def test_tasks_called_or_applied_inside_a_step_are_not_the_step(proj):
    """Guard: the body may use other tasks, and its own, as functions; one claim, one checkpoint."""
    app, runner = proj

    @app.task(shared=False, name="outer", bind=True)
    def outer(self, depth=0):
        add = app.tasks["add"]
        if depth == 2:
            return add(1, 2) + add.run(3, 4)
        applied = add.apply([5, 6], headers=dict(self.request.headers)).get(disable_sync_subtasks=False)
        return self(depth + 1) + applied

    assert deliver_step(app, "outer").retval == 10 + 11 + 11
    assert runner.words == ["claim", "succeed"]


@pytest.mark.parametrize("own_call", [False, True])
def test_a_step_applied_inside_a_step_is_a_step_of_its_own(own_call):
    """Guard: `run_cascade` inside a task; each is claimed once, and afterwards the outer one is current again."""
    app, runner = guarded_app()

    class Own(Task):
        abstract = True

        def __call__(self, *args, **kwargs):
            return self.run(*args, **kwargs)

    @app.task(shared=False, name="nest", bind=True, base=Own if own_call else None)
    def nest(self, depth=0):
        assert current_attempt().ref.task_id == self.request.id
        if depth == 0:
            inner = str(uuid.uuid4())
            runner.kwargs = {"depth": 1}
            self.apply(task_id=inner, headers=step_headers(inner)).get(disable_sync_subtasks=False)
        assert current_attempt().ref.task_id == self.request.id
        return depth

    assert deliver_step(app, "nest").state == "SUCCESS"
    assert runner.told[-2:] == [("succeed", 1), ("succeed", 0)]


def test_super_call_of_a_base_class_passes_through_the_guard(proj):
    """Guard: a chain of `__call__` methods, guarded at several levels, is one step."""
    app, runner = proj
    seen = []

    class Base(Task):
        abstract = True

        def __call__(self, *args, **kwargs):
            seen.append("base")
            return super().__call__(*args, **kwargs)

    class Derived(Base):
        abstract = True

        def __call__(self, *args, **kwargs):
            seen.append("derived")
            return super().__call__(*args, **kwargs)

    @app.task(shared=False, name="derived", base=Derived)
    def derived():
        return 1

    assert deliver_step(app, "derived").retval == 1
    assert (seen, runner.words) == (["derived", "base"], ["claim", "succeed"])


def test_the_current_attempt_is_known_in_the_body_and_only_there(proj):
    app, _ = proj
    seen = []

    @app.task(shared=False, name="helper")
    def helper():
        seen.append(current_attempt().ref.step)

    @app.task(shared=False, name="who")
    def who():
        helper()
        helper.apply()
        seen.append(current_attempt().ref.step)

    deliver_step(app, "who")
    assert seen == ["charge"] * 3
    assert current_attempt() is None
    deliver(app, "add", [1, 2])


def test_links_of_a_message_run_after_the_checkpoint(proj):
    """Rule 3: what follows from a step comes after what it gave is in SQL."""
    app, runner = proj
    with Published() as published:
        runner.succeed = lambda attempt, value: published.headers.append({"task": "checkpoint"})
        deliver_step(app, "add", chain=[app.tasks["add"].s()])
    assert published.names == ["checkpoint", "add"]


def everything(app):
    """What a plain task may notice of itself, in all the ways in which it can be run in one process."""
    seen = []

    def look(task):
        request = task.request
        seen.append((task.name, request.id, request.retries, request.called_directly, request.is_eager, request.args))
        seen.append((len(task.request_stack.stack), sorted(key for key in vars(request) if key != "_protected")))

    @app.task(shared=False, name="leaf", bind=True)
    def leaf(self, x=0):
        look(self)
        return x + 1

    @app.task(shared=False, name="again", bind=True, max_retries=2, default_retry_delay=0)
    def again(self, x=0):
        look(self)
        if self.request.retries < 2:
            raise self.retry()
        return x

    @app.task(shared=False, name="nested", bind=True)
    def nested(self, depth=0):
        look(self)
        if depth:
            leaf(1)
            self(depth - 1)
            self(depth - 1)
            nested.apply([0], task_id="inner")
        return depth

    @app.task(shared=False, name="fails", bind=True)
    def fails(self):
        look(self)
        raise ValueError("no")

    results = [
        deliver(app, "nested", [1], task_id="t1").retval,
        nested.apply([1], task_id="t2").get(),
        nested(1),
        again.apply(task_id="t3").get(),
        fails.apply(task_id="t4").state,
        deliver(app, "fails", task_id="t5").stored,
        deliver(app, "leaf", [1], task_id="t6", headers={"mine": 1}).retval,
    ]
    with_canvas = [
        (leaf.s(1) | leaf.s()).apply().get(),
        chain(leaf.s(1), group(leaf.s(), leaf.s())).apply().get(),
        group(leaf.s(1), leaf.s(2)).apply().get(),
    ]
    ids = {one[1] for one in seen if len(one) == 6 and one[1] and not one[1].startswith(("t", "inner"))}
    return [one for one in seen if len(one) == 2 or one[1] not in ids], results, with_canvas


def test_a_plain_task_cannot_tell_whether_the_guard_is_there():
    """R87: requests, their stacks, nested calls, retries and eager canvases are the same with and without."""
    assert everything(guarded_app()[0]) == everything(new_app())


def test_the_same_holds_when_all_is_eager():
    """R87: `task_always_eager`, as many test suites have it."""
    results = []
    for app in (new_app(task_always_eager=True), guarded_app(task_always_eager=True)[0]):

        @app.task(shared=False, name="inc")
        def inc(x):
            return x + 1

        @app.task(shared=False, name="total")
        def total(numbers):
            return sum(numbers)

        canvas = group(inc.s(1), inc.s(2)) | app.tasks["total"].s()
        results.append((app.tasks["inc"].delay(1).get(), canvas.apply_async().get()))
    assert results[0] == results[1] == (2, 5)


def test_passing_through_costs_about_half_a_microsecond(process):
    """Guard: the time that a call takes longer, best of many; the bound leaves room for a busy machine."""
    costs = []
    for app in (new_app(), guarded_app()[0]):

        class Own(Task):
            abstract = True

            def __call__(self, x):
                return self.run(x)

        @app.task(shared=False, name="cheap", base=Own)
        def cheap(x):
            return x

        task = app.tasks["cheap"]
        task.push_request(id="1", called_directly=False)
        costs.append(min(timeit.repeat(lambda task=task: task(1), number=2000, repeat=30)) / 2000)
        task.pop_request()
    assert costs[1] - costs[0] < 2e-6
