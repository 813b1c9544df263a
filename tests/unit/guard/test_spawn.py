"""An app that is pickled for a fresh pool process takes its guard along."""

from __future__ import annotations

import logging
import pickle

from celery_cascade.tasks.guard import unguarded
from unit.guard.recording import deliver_step, guarded_app, new_app


def double(x):
    return 2 * x


def rebuilt(app):
    copy = pickle.loads(pickle.dumps(app))
    copy.task(shared=False, name="double")(double)
    return copy


def test_a_rebuilt_app_is_guarded_and_its_steps_go_to_the_runner_of_the_original():
    app, runner = guarded_app(task_ignore_result=True)
    runner.args = [21]
    copy = rebuilt(app)
    deliver_step(copy, "double")
    assert unguarded(copy) == []
    assert runner.told[1:] == [("succeed", 42)]


def test_without_the_original_a_step_is_left_to_others_and_the_cure_is_logged(caplog):
    """Guard: the module that makes the app was not imported there."""
    app, runner = guarded_app(task_ignore_result=True)
    app.main = "unheard-of"
    copy = rebuilt(app)
    with caplog.at_level(logging.ERROR, "celery_cascade.tasks"):
        assert deliver_step(copy, "double").state == "IGNORED"
    assert runner.told == []
    assert "Add that module to `include`" in caplog.text


def test_an_app_without_the_plugin_is_rebuilt_without_it():
    """R87."""
    guarded_app()
    assert "double" in unguarded(rebuilt(new_app()))
