"""`cascade_session` goes to everything that a session causes, `cascade_step` to nothing."""

from __future__ import annotations

import pytest
from celery import chain, chord, group

from unit.guard.recording import Published, deliver, deliver_step, guarded_app, new_app, step_headers


def app_with_tasks(make=guarded_app):
    made = make()
    app = made[0] if isinstance(made, tuple) else made

    @app.task(shared=False, name="leaf", bind=True)
    def leaf(self, *args):
        return 1

    @app.task(shared=False, name="spawn", bind=True)
    def spawn(self):
        leaf.delay()
        group(leaf.s(), leaf.s()).delay()
        chain(leaf.s(), leaf.s()).delay()
        chord([leaf.s(), leaf.s()], leaf.s()).delay()
        leaf.apply_async(link=leaf.s(), link_error=leaf.s())
        app.send_task("elsewhere")

    @app.task(shared=False, name="again", bind=True)
    def again(self):
        raise self.retry(countdown=0)

    @app.task(shared=False, name="replaced", bind=True)
    def replaced(self):
        raise self.replace(leaf.s() | leaf.s())

    @app.task(shared=False, name="leaky", bind=True)
    def leaky(self):
        leaf.apply_async(headers=dict(self.request.headers))

    @app.task(shared=False, name="through-others", bind=True)
    def through_others(self, depth=0):
        if depth < 2:
            return self(depth + 1) if depth else spawn_helper(self)
        return leaf.delay()

    @app.task(shared=False, name="helper")
    def helper(task):
        leaf.delay()  # called directly: its own request has no headers
        return task(1)

    def spawn_helper(task):
        helper.apply([task])
        return helper(task)

    return app


@pytest.mark.parametrize("name", ["spawn", "again", "replaced", "through-others"])
def test_whatever_a_task_of_a_session_publishes_bears_the_session(name):
    app = app_with_tasks()
    with Published() as published:
        deliver(app, name, cascade_session="order-7")
    assert published.headers
    assert {headers.get("cascade_session") for headers in published.headers} == {"order-7"}


def test_what_celery_publishes_for_a_task_that_has_ended_bears_it_too():
    """CELERY.md 0.7: links, error links and the rest of a chain."""
    app = app_with_tasks()
    leaf = app.tasks["leaf"]
    with Published() as published:
        deliver(app, "leaf", cascade_session="s", callbacks=[leaf.s(), leaf.s()], chain=[leaf.s(), leaf.s()])
        app.task(shared=False, name="fails")(fails)
        deliver(app, "fails", cascade_session="s", errbacks=[leaf.si()])
    assert len(published.headers) >= 3
    assert {headers.get("cascade_session") for headers in published.headers} == {"s"}


def fails():
    raise ValueError


def test_messages_that_a_step_publishes_are_of_the_session_but_not_the_step():
    app = app_with_tasks()
    with Published() as published:
        deliver_step(app, "spawn")
    assert {headers.get("cascade_session") for headers in published.headers} == {"order-7"}
    assert not any("cascade_step" in headers for headers in published.headers)


def test_a_step_header_that_is_passed_on_by_hand_is_taken_off():
    """Guard: twice over, since the receiver would not take it for its own either."""
    app = app_with_tasks()
    with Published() as published:
        deliver_step(app, "leaky")
    (headers,) = published.headers
    assert headers["cascade_session"] == "order-7"
    assert "cascade_step" not in headers


def test_a_messages_own_step_header_and_another_session_stay():
    """Guard: it is how steps are published, from within a step of another session too."""
    app = app_with_tasks()

    @app.task(shared=False, name="starts")
    def starts():
        own = step_headers("t-9") | {"cascade_session": "order-9"}
        app.tasks["leaf"].apply_async(task_id="t-9", headers=own)

    with Published() as published:
        deliver_step(app, "starts")
    (headers,) = published.headers
    assert headers["cascade_step"]["task_id"] == headers["id"] == "t-9"
    assert headers["cascade_session"] == "order-9"


def test_outside_of_sessions_messages_are_as_before():
    """R87."""
    app = app_with_tasks()
    with Published() as published:
        deliver(app, "spawn")
        app.tasks["leaf"].delay()
    assert not any(key.startswith("cascade") for headers in published.headers for key in headers)


def test_an_app_without_the_plugin_carries_nothing():
    """Two apps in one process: a header that somebody sends by that name is not ours to spread."""
    guarded_app()
    app = app_with_tasks(new_app)
    with Published() as published:
        deliver(app, "spawn", cascade_session="order-7")
    assert not any("cascade_session" in headers for headers in published.headers)


def test_the_old_message_protocol_bears_no_harm():
    """task_protocol = 1 keeps the id in the body."""
    app = app_with_tasks()
    app.conf.task_protocol = 1
    seen = []
    from celery.signals import before_task_publish

    def look(headers, body, **_):
        seen.append((dict(headers), body["id"]))

    before_task_publish.connect(look)
    app.tasks["leaf"].apply_async(task_id="t-9", headers=step_headers("t-9"))
    before_task_publish.disconnect(look)
    assert seen == [(step_headers("t-9"), "t-9")]
