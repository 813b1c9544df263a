"""`self.retry` and its kin inside a step, and unchanged outside of one."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta

import pytest
from celery import Task
from celery.exceptions import Ignore, MaxRetriesExceededError, Retry

from celery_cascade.errors import CascadeError
from unit.guard.recording import Published, deliver, deliver_step, guarded_app, step_headers


def step_that(body, **options):
    app, runner = guarded_app()
    app.task(shared=False, name="work", bind=True, **options)(body)
    return app, runner


def ask(**given):
    def work(self, *args, **kwargs):
        raise self.retry(**given)

    return work


def test_retry_tells_the_runner_and_publishes_nothing():
    """Guard: the timer is in SQL, so a lost broker loses no retry."""
    app, runner = step_that(ask(countdown=7))
    with Published() as published:
        done = deliver_step(app, "work")
    assert (done.stored, published.names) == ("RETRY", [])
    assert runner.words == ["claim", "retry"]
    asked = runner.last()
    assert (asked.args, asked.kwargs, asked.delay, asked.error, asked.options) == (None, None, 7.0, None, {})
    assert str(done.info.retval) == "Retry in 7.0s"


def test_the_delay_is_the_tasks_own_unless_it_is_given():
    app, runner = step_that(ask(), default_retry_delay=33)
    deliver_step(app, "work")
    assert runner.last().delay == 33.0


@pytest.mark.parametrize("naive", [False, True])
def test_an_eta_becomes_a_delay(naive):
    eta = datetime.now(UTC) + timedelta(minutes=5)
    app, runner = step_that(ask(eta=eta.replace(tzinfo=None) if naive else eta))
    deliver_step(app, "work")
    assert 290 < runner.last().delay <= 300


def test_an_eta_that_has_passed_is_due_at_once():
    app, runner = step_that(ask(eta=datetime(2020, 1, 1, tzinfo=UTC)))
    deliver_step(app, "work")
    assert runner.last().delay == 0.0


def test_changed_arguments_and_options_are_handed_on():
    app, runner = step_that(ask(args=(5,), kwargs={"b": 6}, countdown=0, queue="slow", priority=3))
    runner.args, runner.kwargs = [1], {"b": 2}
    deliver_step(app, "work")
    asked = runner.last()
    assert (asked.args, asked.kwargs) == ([5], {"b": 6})
    assert asked.options == {"queue": "slow", "priority": 3}


def test_one_kind_of_argument_may_change_alone():
    """R87: the other kind stays what the attempt had, as in Celery."""
    app, runner = step_that(ask(kwargs={"b": 6}))
    runner.args, runner.kwargs = [1], {"b": 2}
    deliver_step(app, "work")
    assert (runner.last().args, runner.last().kwargs) == ([1], {"b": 6})


def test_the_error_that_led_to_it_is_handed_on_given_or_not():
    for given in (True, False):

        def work(self, given=given):
            try:
                raise OSError("down")
            except OSError as exc:
                raise self.retry(exc=exc if given else None, countdown=1)  # noqa: B904  as users write it

        app, runner = step_that(work)
        deliver_step(app, "work")
        assert isinstance(runner.last().error, OSError)


def test_the_limit_counts_the_tasks_own_retries():
    """R87: `max_retries` compares with `self.request.retries`, which the claim brings."""
    app, runner = step_that(ask(), max_retries=2)
    runner.retries = 1
    assert deliver_step(app, "work").stored == "RETRY"
    runner.retries = 2
    assert deliver_step(app, "work").stored == "FAILURE"
    assert runner.words[-1] == "fail"
    assert isinstance(runner.last(), MaxRetriesExceededError)


def test_past_the_limit_the_given_error_is_raised():
    app, runner = step_that(ask(exc=OSError("down"), max_retries=0))
    assert deliver_step(app, "work").stored == "FAILURE"
    assert isinstance(runner.last(), OSError)


def test_autoretry_is_a_retry_of_the_step():
    """Guard: `autoretry_for` calls `self.retry` from a wrapper of `run`."""

    def work(self):
        raise OSError("down")

    app, runner = step_that(work, autoretry_for=(OSError,), retry_kwargs={"max_retries": 1, "countdown": 4})
    with Published() as published:
        assert deliver_step(app, "work").stored == "RETRY"
    assert (runner.last().delay, type(runner.last().error)) == (4.0, OSError)
    runner.retries = 1
    assert deliver_step(app, "work").stored == "FAILURE"
    assert isinstance(runner.last(), OSError)
    assert published.names == []


@pytest.mark.parametrize("ending", ["return", "raise it", "another error", "ignore"])
def test_a_retry_that_is_not_thrown_stands_however_the_body_ends(ending):
    """R87: with `throw=False` Celery's message is out at once, whatever the body does next."""

    def work(self):
        signal = self.retry(countdown=3, throw=False)
        assert isinstance(signal, Retry)
        if ending == "raise it":
            raise signal
        if ending == "another error":
            raise ValueError
        if ending == "ignore":
            raise Ignore
        return "a value"

    app, runner = step_that(work)
    assert deliver_step(app, "work").stored == "RETRY"
    assert runner.words == ["claim", "retry"]


def test_a_retry_that_the_body_swallows_stands_too():
    def work(self):
        try:
            self.retry(countdown=3)
        except Retry:
            return "never mind"

    app, runner = step_that(work)
    assert deliver_step(app, "work").stored == "RETRY"
    assert runner.words == ["claim", "retry"]


def test_a_retry_of_another_task_is_not_the_steps():
    """Guard: called directly, another task raises its error; applied, it retries by itself."""
    app, runner = guarded_app()

    @app.task(shared=False, name="helper", bind=True, default_retry_delay=0)
    def helper(self, direct):
        if direct or self.request.retries == 0:
            raise self.retry(countdown=0, exc=OSError("helper"))
        return self.request.retries

    @app.task(shared=False, name="applies")
    def applies():
        return helper.apply([False]).get(disable_sync_subtasks=False)

    @app.task(shared=False, name="calls")
    def calls():
        return helper(True)

    assert deliver_step(app, "applies").retval == 1
    assert runner.told[1:] == [("succeed", 1)]
    runner.told.clear()
    deliver_step(app, "calls")
    assert runner.words == ["claim", "fail"]
    assert isinstance(runner.last(), OSError)


def test_a_retry_without_an_error_in_a_task_called_directly_fails_the_step():
    app, runner = guarded_app()

    @app.task(shared=False, name="helper", bind=True)
    def helper(self):
        raise self.retry()

    @app.task(shared=False, name="calls")
    def calls():
        return helper()

    assert deliver_step(app, "calls").stored == "FAILURE"
    assert isinstance(runner.last(), CascadeError)


def test_a_retry_method_of_the_users_own_is_called():
    """Guard: wrapped like `__call__`, not replaced."""
    app, runner = guarded_app()

    class Patient(Task):
        abstract = True

        def retry(self, *args, countdown=None, **kwargs):
            return super().retry(*args, countdown=100, **kwargs)

    app.task(shared=False, name="work", bind=True, base=Patient)(ask())
    deliver_step(app, "work")
    assert runner.last().delay == 100.0


def test_an_eager_step_that_asks_for_a_retry_is_left_to_the_runner():
    """Guard: `Task.apply` would run it again at once, with the header of the old attempt."""
    app, runner = step_that(ask(countdown=1))
    task_id = str(uuid.uuid4())
    result = app.tasks["work"].apply(task_id=task_id, headers=step_headers(task_id))
    assert result.state == "RETRY"
    assert runner.words == ["claim", "retry"]


def test_the_request_is_not_eager_afterwards():
    seen = []

    def work(self):
        self.retry(throw=False, countdown=0)
        seen.append(self.request.is_eager)

    app, _ = step_that(work)
    deliver_step(app, "work")
    assert seen == [False]


@pytest.mark.parametrize("method", ["replace", "add_to_chord"])
def test_what_a_step_cannot_do_yet_is_refused_by_name(method):
    def work(self):
        getattr(self, method)(self.s())

    app, runner = step_that(work)
    with Published() as published:
        assert deliver_step(app, "work").stored == "FAILURE"
    assert isinstance(runner.last(), CascadeError)
    assert f"step charge of session order-7 called self.{method}(): not yet supported" in str(runner.last())
    assert published.names == []


def test_outside_of_steps_retry_and_replace_are_celerys():
    """R87: published, with the same id."""
    app, runner = guarded_app()
    app.task(shared=False, name="again", bind=True)(ask(countdown=1))

    @app.task(shared=False, name="replaced", bind=True)
    def replaced(self):
        raise self.replace(app.tasks["again"].s())

    with Published() as published:
        again = deliver(app, "again")
        other = deliver(app, "replaced")
    assert (again.stored, other.state) == ("RETRY", "IGNORED")
    assert [(headers["task"], headers["id"]) for headers in published.headers] == [
        ("again", again.id),
        ("again", other.id),
    ]
    assert runner.told == []
