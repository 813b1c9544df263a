"""The guard is on every task, however it is made and whatever `task_annotations` says."""

from __future__ import annotations

import functools

import pytest
from celery import Celery, Task, shared_task

from celery_cascade.tasks.guard import guard_tasks, install_guard, unguarded
from unit.guard.recording import RecordingRunner, deliver, deliver_step, guarded_app, new_app, step_headers

CALLS: list[str] = []


def add_one(x):
    return x + 1


@shared_task(name="shared-add")
def shared_add(x):
    return x + 1


class Counting(Task):
    abstract = True

    def __call__(self, *args, **kwargs):
        CALLS.append(f"count {self.name}")
        return super().__call__(*args, **kwargs)


def logged(fun):
    @functools.wraps(fun)
    def wrapper(*args, **kwargs):
        CALLS.append("logged")
        return fun(*args, **kwargs)

    return wrapper


class Decorated(Task):
    abstract = True

    @logged
    def __call__(self, *args, **kwargs):
        return self.run(*args, **kwargs)


class Partial(Task):
    abstract = True

    def _call(self, prefix, *args, **kwargs):
        CALLS.append(prefix)
        return self.run(*args, **kwargs)

    __call__ = functools.partialmethod(_call, "partial")


class Classic(Task):
    name = "classic"

    def run(self, x):
        return x + 1


class ClassicWithCall(Classic):
    name = "classic-with-call"

    def __call__(self, x):
        CALLS.append("classic")
        return self.run(x)


def plain(app):
    app.task(shared=False, name="plain")(add_one)


def bound(app):
    @app.task(shared=False, name="bound", bind=True)
    def add(self, x):
        assert self.request.id
        return x + 1


def counting(app):
    app.task(shared=False, name="counting", base=Counting)(add_one)


def decorated(app):
    app.task(shared=False, name="decorated", base=Decorated)(add_one)


def partial(app):
    app.task(shared=False, name="partial", base=Partial)(add_one)


def classic(app):
    app.register_task(type("Own", (Classic,), {})())


def classic_with_call(app):
    app.register_task(type("Own", (ClassicWithCall,), {})())


def late(app):
    app.finalize()
    plain(app)


def autoretry(app):
    app.task(shared=False, name="autoretry", autoretry_for=(OSError,))(add_one)


KINDS = [plain, bound, counting, decorated, partial, classic, classic_with_call, late, autoretry]


def name_of(kind) -> str:
    return {"late": "plain", "classic_with_call": "classic-with-call"}.get(kind.__name__, kind.__name__)


@pytest.mark.parametrize("kind", KINDS)
def test_a_task_of_any_kind_runs_as_a_step(kind):
    """Guard: claimed first, called with the arguments of the claim, checkpointed before Celery goes on."""
    app, runner = guarded_app()
    kind(app)
    runner.args = [41]
    done = deliver_step(app, name_of(kind))
    assert (done.state, done.stored) == ("SUCCESS", "SUCCESS")
    assert runner.words == ["claim", "succeed"]
    assert runner.last() == 42
    assert unguarded(app) == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_task_of_any_kind_is_what_it_was_when_it_is_not_a_step(kind):
    """R87: called, applied and delivered, the same happens with the guard as without."""
    results = []
    for app in (new_app(), guarded_app()[0]):
        CALLS.clear()
        kind(app)
        name = name_of(kind)
        task = app.tasks[name]
        if name != "bound":  # it looks at its request, which a direct call does not have
            task(1)
        outcome = deliver(app, name, [1]), task.apply([1])
        results.append((outcome[0].state, outcome[0].retval, outcome[1].get(), CALLS[:]))
    assert results[0] == results[1]


@pytest.mark.parametrize("kind", KINDS)
def test_a_task_that_was_bound_before_the_guard_came_is_wrapped_all_the_same(kind):
    """Guard: the order of lines in the user's module does not matter."""
    app, runner = new_app(), RecordingRunner()
    kind(app)
    app.finalize()
    install_guard(app, runner)
    runner.args = [41]
    assert unguarded(app) == []
    deliver_step(app, name_of(kind))
    assert runner.words == ["claim", "succeed"]


def test_a_shared_task_answers_to_the_runner_of_each_app():
    """Guard: two apps in one process, one function, two runners."""

    (one, first), (two, second), three = guarded_app(), guarded_app(), new_app()
    first.args, second.args = [1], [2]
    deliver_step(two, "shared-add")
    deliver_step(one, "shared-add")
    assert deliver(three, "shared-add", [9], **step_headers("t")).retval == 10  # no plugin there: an ordinary message
    assert (first.last(), second.last()) == (2, 3)


def test_an_app_with_a_task_class_of_its_own_keeps_it():
    """R87: as Django's fixup does with DjangoTask."""
    app = Celery("proj", broker="memory://", backend="cache+memory://", set_as_current=False, task_cls=Counting)
    runner = RecordingRunner()
    install_guard(app, runner)
    plain(app)
    runner.args = [1]
    CALLS.clear()
    deliver_step(app, "plain")
    assert CALLS == ["count plain"]
    assert isinstance(app.tasks["plain"], Counting)


def test_a_task_whose_base_is_itself_a_registered_task_is_guarded():
    """Guard: Celery does not annotate it, since it inherits `__bound__`."""

    class Mother(Task):
        name = "mother"

        def run(self, x):
            return x

    app, runner = guarded_app()
    app.register_task(Mother())

    class Daughter(Mother):
        name = "daughter"

        def __call__(self, x):
            return super().__call__(x) + 1

    app.register_task(Daughter())
    assert unguarded(app) == []
    runner.args = [1]
    deliver_step(app, "daughter")
    assert runner.words == ["claim", "succeed"]
    assert runner.last() == 2


def test_a_task_that_replaces_its_call_when_it_is_bound_is_guarded_after_that():
    class Busy(Task):
        name = "busy"

        @classmethod
        def on_bound(cls, app):
            cls.__call__ = lambda self, x: self.run(x)

        def run(self, x):
            return x

    app, runner = guarded_app()
    app.register_task(Busy())
    assert unguarded(app) == []
    runner.args = [1]
    deliver_step(app, "busy")
    assert runner.words == ["claim", "succeed"]


def test_a_class_that_escapes_is_named_and_can_be_caught():
    """Guard: a worker refuses to start as long as a registered task lacks it."""
    app, _ = guarded_app()
    plain(app)
    app.finalize()
    type(app.tasks["plain"]).__call__ = lambda self, x: self.run(x)
    assert unguarded(app) == ["plain"]
    guard_tasks(app)
    assert unguarded(app) == []


def test_an_app_without_the_plugin_has_all_its_tasks_named():
    app = new_app()
    plain(app)
    assert "plain" in unguarded(app)
    assert "celery.chord" in unguarded(app)


def test_celerys_own_tasks_are_guarded_too():
    app, runner = guarded_app()
    deliver_step(app, "celery.accumulate")
    assert runner.words == ["claim", "succeed"]


def test_installing_twice_wraps_once_and_the_last_runner_answers():
    """Guard: idempotent; a second Cascades(app) in a reloaded module does no harm."""
    app, first = guarded_app()
    plain(app)
    app.finalize()
    call = type(app.tasks["plain"]).__call__
    second = RecordingRunner()
    install_guard(app, second)
    assert type(app.tasks["plain"]).__call__ is call
    second.args = [1]
    deliver_step(app, "plain")
    assert (first.words, second.words) == ([], ["claim", "succeed"])


def test_a_tool_that_wraps_the_guard_does_not_hide_it():
    """Guard: Sentry and its like replace `__call__` by a functools.wraps of what they find."""
    app, runner = guarded_app()
    plain(app)
    app.finalize()
    task_class = type(app.tasks["plain"])
    task_class.__call__ = logged(task_class.__call__)
    assert unguarded(app) == []
    runner.args = [1]
    CALLS.clear()
    deliver_step(app, "plain")
    assert (CALLS, runner.words) == (["logged"], ["claim", "succeed"])


def test_installing_reads_no_configuration_and_finalizes_nothing():
    """R87: the user's settings may still come."""
    app, _ = guarded_app()
    assert not app.configured
    assert not app.finalized
