"""What the user's own `task_annotations` say stays true under the guard."""

from __future__ import annotations

import pytest

from celery_cascade.tasks.guard import install_guard, unguarded
from unit.guard.recording import RecordingRunner, deliver, deliver_step, new_app

SEEN: list[str] = []


def add_one(x=0):
    return x + 1


def shout(call):
    def around(self, *args, **kwargs):
        SEEN.append("around")
        return call(self, *args, **kwargs)

    return around


def whisper(self, *args, **kwargs):
    SEEN.append("own call")
    return self.run(*args, **kwargs)


class SlowOnly:
    """An annotation object, as the documentation of Celery has it."""

    def annotate(self, task):
        return {"rate_limit": "1/s"} if task.name == "slow" else None


class Everywhere:
    def annotate_any(self):
        return {"max_retries": 7}


USERS = {
    "nothing": None,
    "a task's attributes": {"slow": {"rate_limit": "1/s"}},
    "attributes for all": {"*": {"rate_limit": "9/s", "@__call__": shout}},
    "both": {"slow": {"rate_limit": "1/s", "@__call__": shout}, "*": {"@__call__": shout, "priority": 3}},
    "a call of its own": {"slow": {"__call__": whisper}},
    "objects in a list": [SlowOnly(), {"*": {"rate_limit": "9/s"}}, Everywhere()],
    "a list that begins with all": [{"*": {"rate_limit": "9/s"}}, {"slow": {"rate_limit": "1/s", "@__call__": shout}}],
    "a path": f"{__name__}.Everywhere",
    "retry wrapped": {"*": {"@retry": shout}},
}


def app_with(annotations, *, guard):
    app = new_app()
    if guard == "before":
        install_guard(app, RecordingRunner())
    app.task(shared=False, name="slow")(add_one)
    app.task(shared=False, name="other")(add_one)
    app.config_from_object({"task_annotations": annotations})
    if guard == "after":
        app.finalize()
        install_guard(app, RecordingRunner())
    return app


@pytest.mark.parametrize("guard", ["before", "after"])
@pytest.mark.parametrize("users", USERS.values(), ids=USERS.keys())
def test_the_users_annotations_are_what_they_are_without_the_guard(users, guard):
    """R87: a dict, a list (first match of each kind), an object, a path, and around keys, all as Celery has them."""
    found = []
    for app in (app_with(users, guard=None), app_with(users, guard=guard)):
        SEEN.clear()
        states = [deliver(app, name, [1]).retval for name in ("slow", "other")]
        tasks = [app.tasks[name] for name in ("slow", "other")]
        found.append((states, SEEN[:], [(task.rate_limit, task.max_retries, task.priority) for task in tasks]))
    assert found[0] == found[1]


@pytest.mark.parametrize("guard", ["before", "after"])
@pytest.mark.parametrize("users", USERS.values(), ids=USERS.keys())
def test_no_annotation_of_the_users_switches_the_guard_off(users, guard):
    """Guard: a list of annotations is first-match, so a `*` beside ours would hide it."""
    app = app_with(users, guard=guard)
    assert unguarded(app) == []
    SEEN.clear()
    deliver_step(app, "slow")
    assert app._cascade_runner.words == ["claim", "succeed"]
    assert SEEN.count("around") == deliver_without_guard(users)


def deliver_without_guard(users) -> int:
    app = app_with(users, guard=None)
    SEEN.clear()
    deliver(app, "slow")
    return SEEN.count("around")


def test_settings_that_come_last_count():
    """Guard: whatever the order of Cascades(app), config_from_object and conf.update."""
    app, runner = new_app(task_annotations={"*": {"rate_limit": "1/s"}}), RecordingRunner()
    install_guard(app, runner)
    assert app.conf.task_annotations == {"*": {"rate_limit": "1/s"}}  # read: the app is configured now
    app.config_from_object({"task_annotations": {"*": {"rate_limit": "2/s"}}})
    app.conf.update(task_annotations={"*": {"rate_limit": "3/s"}})
    app.task(shared=False, name="slow")(add_one)
    assert app.tasks["slow"].rate_limit == "3/s"
    assert unguarded(app) == []


def test_the_users_setting_is_left_as_it_was():
    """R87: it can be shown, compared and pickled; the guard is not in it."""
    users = {"*": {"rate_limit": "1/s"}}
    app = app_with(users, guard="before")
    app.finalize()
    assert app.conf.task_annotations == users
    assert app.__reduce_keys__()["changes"].get("task_annotations", users) == users


def test_annotations_that_celery_had_prepared_before_are_kept():
    app = new_app(task_annotations={"*": {"rate_limit": "1/s"}})
    assert app.annotations
    install_guard(app, RecordingRunner())
    app.task(shared=False, name="slow")(add_one)
    assert app.tasks["slow"].rate_limit == "1/s"
