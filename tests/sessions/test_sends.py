"""Decorated tasks sent as everybody sends Celery tasks: what becomes a session, and what stays a plain message."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import celery.exceptions
import pytest
from celery import Task, chain, chord, group, shared_task, signature
from celery._state import _task_stack

from celery_cascade.definition.cascade import RetryPolicy
from celery_cascade.errors import ConfigError, DefinitionError, NotSerializable, SessionConflict, SessionFailed
from celery_cascade.sessions.session import Session
from sessions.kit import Kit


@pytest.fixture
def shop(kit: Kit) -> Kit:
    """`charge` is decorated, `ship` is not."""

    @kit.cascades.step(retry=3)
    @kit.app.task(name="shop.charge", shared=False)
    def charge(amount: int, tip: int = 0) -> int:
        kit.note()
        return amount + tip

    @kit.app.task(name="shop.ship", shared=False)
    def ship(*parcels: Any) -> list[Any]:
        kit.note()
        return list(parcels)

    kit.charge, kit.ship = charge, ship  # type: ignore[attr-defined]
    return kit


def test_delay_commits_a_session_of_one_step_before_its_message(shop: Any) -> None:
    """R151: definition = the signature's JSON, inputs = its arguments."""
    session = shop.charge.delay(7, tip=1)
    assert isinstance(session, Session)
    assert (session.status, session.ready(), session.state) == ("active", False, "PENDING")
    assert session.inputs == {"charge": {"args": [7], "kwargs": {"tip": 1}}}
    assert session.to_dict()["cascade_id"] == "shop.charge"
    (message,) = shop.messages()
    assert message.headers["cascade_step"]["session"] == session.id
    shop.receive(message)
    assert (session.get(timeout=1), session.state, session.successful()) == (8, "SUCCESS", True)
    assert shop.ran == ["charge/1"]


def test_a_thousand_calls_store_their_definition_once(shop: Any) -> None:
    for amount in range(20):
        shop.charge.delay(amount)
    assert shop.sql("SELECT count(*) FROM cascade_definitions") == [(1,)]
    assert shop.sql("SELECT count(*) FROM cascade_sessions") == [(20,)]


def test_celery_itself_reads_the_stored_definition(shop: Any) -> None:
    session = chain(shop.charge.s(1), group(shop.charge.s(), shop.ship.s())).delay()
    stored = shop.app.signature(__import__("json").loads(session.definition))
    assert [task.task for task in stored.tasks[1].tasks] == ["shop.charge", "shop.ship"]


@pytest.mark.parametrize(
    ("canvas", "output"),
    [
        (lambda k: chain(k.charge.s(1), k.charge.s(10)), 11),
        (lambda k: k.charge.s(1) | k.ship.si("box"), ["box"]),
        (lambda k: group(k.charge.s(1), k.ship.s(2)), [1, [2]]),
        (lambda k: group(k.charge.s(1)), [1]),
        (lambda k: chain(k.charge.s(1), group(k.charge.s(1), k.charge.s(2)), k.ship.s()), [[2, 3]]),
        (lambda k: chain(k.charge.s(1), group(k.charge.s(1), k.charge.s(2))), [2, 3]),
        (lambda k: chain(group(k.charge.s(1), k.charge.s(2)), group(k.ship.s("a"), k.ship.s("b"))), None),
        (lambda k: chord([k.charge.s(1), k.charge.s(2)], k.ship.s("end")), [[1, 2], "end"]),
        (lambda k: group(chain(k.charge.s(1), k.charge.s(1)), k.charge.s(5)), [2, 5]),
        (lambda k: group(group(k.charge.s(1), k.charge.s(2)), k.charge.s(3)), [1, 2, 3]),
        (lambda k: chain(k.charge.s(1), chain(k.charge.s(1), k.charge.s(1)), k.charge.s(1)), 4),
        (lambda k: chain(group(k.charge.s(4)), k.ship.s()), None),
        (lambda k: chain(group(k.charge.s(1), k.charge.s(2)), k.ship.s(), k.ship.s()), [[[1, 2]]]),
    ],
)
def test_a_canvas_gives_what_celery_gives(shop: Any, canvas: Callable[[Any], Any], output: Any) -> None:
    """R151, R87: the same results as the same canvas applied by Celery itself."""
    celerys = canvas(shop).apply().get()
    session = canvas(shop).apply_async()
    shop.deliver()
    assert session.get(timeout=1) == celerys
    assert output is None or celerys == output


def test_partial_arguments_and_options_go_where_celery_puts_them(shop: Any) -> None:
    session = chain(shop.charge.s(tip=1), shop.ship.s("x").set(queue="other", priority=3)).apply_async((5,))
    assert session.inputs == {"charge": {"args": [5], "kwargs": {"tip": 1}}, "ship": {"args": ["x"], "kwargs": {}}}
    steps = shop.runtime.facts(session.id).plan.steps
    assert (steps["ship"].queue, steps["ship"].priority) == ("other", 3)
    group_session = group(shop.charge.s(), shop.ship.s()).apply_async((9,), queue="far")
    assert {s.queue for s in shop.runtime.facts(group_session.id).plan.steps.values()} == {"far"}


def test_values_are_data_and_never_templates(shop: Any) -> None:
    session = shop.ship.apply_async(("{{ inputs.ship }}",), durable=True)
    shop.deliver()
    assert session.get(timeout=1) == ["{{ inputs.ship }}"]


def test_headers_of_the_call_travel_with_every_message_of_the_step(shop: Any) -> None:
    """What traces calls puts its ids there."""
    shop.charge.apply_async((1,), headers={"sentry-trace": "abc"})
    (message,) = shop.messages()
    assert message.headers["sentry-trace"] == "abc"


def test_a_chosen_task_id_is_the_sessions_id_and_cannot_be_taken_twice(shop: Any) -> None:
    """R12."""
    assert shop.charge.apply_async((1,), task_id="order-7").id == "order-7"
    assert shop.charge.apply_async((1,), task_id="order-7").id == "order-7"  # unfinished and the same: it goes on
    with pytest.raises(SessionConflict, match="order-7"):
        shop.charge.apply_async((2,), task_id="order-7")


def test_a_task_that_is_not_decorated_is_celerys_own(shop: Any) -> None:
    """R87."""
    shop.ship.delay(1)
    (message,) = shop.messages()
    assert "cascade_step" not in message.headers
    assert shop.sql("SELECT count(*) FROM cascade_sessions") == [(0,)]


@pytest.mark.parametrize(
    "send",
    [
        lambda k: k.charge.apply_async((1,), durable=False),
        lambda k: k.charge.s(1).set(durable=False).delay(),
        lambda k: chain(k.charge.s(1), k.charge.s(1)).apply_async(durable=False),
        lambda k: group(k.charge.s(1), k.charge.s(1)).apply_async(durable=False),
        lambda k: chain(k.charge.s(1)).apply_async(durable=False),
    ],
)
def test_durable_false_sends_plain_messages_also_of_what_follows(shop: Any, send: Callable[[Any], Any]) -> None:
    shop.app.conf.result_backend = "cache+memory://"
    assert not isinstance(send(shop), Session)
    shop.deliver()
    assert shop.sql("SELECT count(*) FROM cascade_sessions") == [(0,)]
    assert set(shop.ran) == {"plain"}


def test_a_retry_of_a_plain_message_stays_the_same_message(kit: Kit) -> None:
    @kit.app.task(name="shop.flaky", shared=False, bind=True, max_retries=1)
    @kit.cascades.step
    def flaky(self: Any) -> str:
        if self.request.retries == 0:
            raise self.retry(countdown=0)
        return "ok"

    sent = flaky.apply_async(durable=False)
    kit.messages()
    flaky.push_request(id=sent.id, called_directly=False, is_eager=False, args=(), kwargs={}, headers={})
    _task_stack.push(flaky)
    try:
        flaky.retry(countdown=0, throw=False)
    finally:
        _task_stack.pop()
        flaky.pop_request()
    (again,) = kit.messages()
    assert again.headers["id"] == sent.id
    assert kit.sql("SELECT count(*) FROM cascade_sessions") == [(0,)]


def test_inside_a_session_a_send_stays_plain_unless_it_says_durable(shop: Any) -> None:
    """R151: captured is only the outermost call. R10: what is started inside knows its parent."""

    @shop.app.task(name="shop.outer", shared=False)
    @shop.cascades.step
    def outer() -> list[str]:
        return [type(shop.charge.delay(1)).__name__, shop.charge.apply_async((1,), durable=True).id]

    session = outer.delay()
    shop.deliver()
    kind, child = session.get(timeout=1)
    assert kind == "AsyncResult"
    told = shop.cascades.session(child).to_dict()
    assert (told["parent_session_id"], told["depth"], told["status"]) == (session.id, 1, "completed")


def test_the_decorated_task_in_a_file_has_its_options_unless_the_file_says_others(kit: Kit) -> None:
    @kit.cascades.step(retry={"max_attempts": 4, "delay": "2s"}, timeout=timedelta(minutes=1), queue="slow", priority=2)
    @kit.app.task(name="shop.slow", shared=False)
    def slow() -> None: ...

    session = kit.start({"id": "a", "task": "shop.slow"}, {"id": "b", "task": "shop.slow", "retry": 1, "queue": "q"})
    steps = kit.runtime.facts(session.id).plan.steps
    assert steps["a"].retry == RetryPolicy(max_attempts=4, delay=2.0)
    assert (steps["a"].timeout, steps["a"].queue, steps["a"].priority) == (60.0, "slow", 2)
    assert (steps["b"].retry.max_attempts, steps["b"].queue, steps["b"].timeout) == (1, "q", 60.0)


def test_a_canvas_keeps_the_policy_that_it_was_started_with(shop: Any) -> None:
    session = shop.charge.delay(1)
    again = shop.again()  # another process, whose code knows nothing of the decoration
    assert again.runtime.facts(session.id).plan.steps["charge"].retry.max_attempts == 3


def test_a_failing_decorated_task_is_retried_by_its_policy_and_its_handle_raises(kit: Kit) -> None:
    @kit.cascades.step(retry={"max_attempts": 2, "delay": 0, "errors": [ValueError]})
    @kit.app.task(name="shop.bad", shared=False)
    def bad() -> None:
        kit.note()
        raise ValueError("no")

    session = bad.delay()
    kit.deliver()
    assert kit.ran == ["bad/1", "bad/2"]
    with pytest.raises(SessionFailed, match="ValueError: no"):
        session.get(timeout=1)
    assert isinstance(session.get(timeout=1, propagate=False), SessionFailed)
    assert (session.state, session.failed()) == ("FAILURE", True)


def test_it_stands_on_or_under_every_kind_of_task(kit: Kit) -> None:
    """R151: @app.task, @shared_task, bound and class-based tasks, with and without parentheses."""
    app, step = kit.app, kit.cascades.step
    app.set_current()

    @step
    @app.task(name="k.on", shared=False)
    def on(x: int) -> int:
        return x

    @app.task(name="k.under", shared=False, bind=True, autoretry_for=(KeyError,))
    @step(retry=2)
    def under(self: Any, x: int) -> int:
        return x

    @step
    @shared_task(name="k.on_shared")
    def on_shared(x: int) -> int:
        return x

    @shared_task(name="k.under_shared", bind=True)
    @step()
    def under_shared(self: Any, x: int) -> int:
        return x

    @step(retry=5)
    class Classy(Task):
        name = "k.class"

        def run(self, x: int) -> int:
            return x

    class Other(Task):
        name = "k.instance"

        def run(self, x: int) -> int:
            return x

    assert not app.finalized  # decorating makes no app final before its time
    classy, instance = app.register_task(Classy()), app.register_task(step(Other()))
    for number, task in enumerate([on, under, on_shared, under_shared, classy, instance]):
        session = task.delay(number)
        kit.deliver()
        assert session.get(timeout=1) == number


def test_a_tasks_own_apply_async_comes_first(kit: Kit) -> None:
    class Tagging(Task):
        def apply_async(self, args: Any = None, kwargs: Any = None, **options: Any) -> Any:
            return super().apply_async(args, {**(kwargs or {}), "tag": "t"}, **options)

    @kit.cascades.step
    @kit.app.task(name="k.tagged", shared=False, base=Tagging)
    def tagged(tag: str = "") -> str:
        return tag

    session = tagged.delay()
    kit.deliver()
    assert session.get(timeout=1) == "t"


@pytest.mark.parametrize(
    ("send", "named"),
    [
        (lambda k: k.charge.apply_async((1,), countdown=5), "countdown"),
        (lambda k: k.charge.apply_async((1,), expires=5), "expires_in"),
        (lambda k: k.charge.apply_async((1,), link=k.ship.s()), "link"),
        (lambda k: k.charge.s(1).on_error(k.ship.s()).delay(), "link_error"),
        (lambda k: k.charge.map([1, 2]).delay(), "map"),
        (lambda k: k.charge.starmap([(1, 2)]).delay(), "starmap"),
        (lambda k: k.charge.chunks([(1, 2)], 1).delay(), "chunks"),
        (lambda k: k.charge.apply_async((1,), colour="red"), "colour"),
        (lambda k: chain(k.charge.s(1), k.ship.map([1])).delay(), "map"),
    ],
)
def test_what_a_durable_send_would_lose_is_refused_by_name(shop: Any, send: Callable[[Any], Any], named: str) -> None:
    with pytest.raises(DefinitionError, match=named):
        send(shop)
    assert shop.messages() == []
    assert shop.sql("SELECT count(*) FROM cascade_sessions") == [(0,)]


def test_a_call_that_does_not_fit_is_a_type_error_where_it_is_made(shop: Any) -> None:
    """R87: as with Celery."""
    with pytest.raises(TypeError, match="too"):
        shop.charge.delay(1, too=2)
    with pytest.raises(NotSerializable):
        shop.charge.delay(object())
    assert shop.sql("SELECT count(*) FROM cascade_sessions") == [(0,)]


def test_a_canvas_of_tasks_can_be_started_as_any_cascade(shop: Any) -> None:
    session = shop.cascades.start(chain(shop.ship.s(1), shop.ship.s(2)), name="by hand", tags=["x"])
    shop.deliver()
    assert session.result(timeout=1) == [[1], 2]
    assert shop.cascades.run(shop.charge.s(3)).result(timeout=1) == 3


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"retry": {"max_attemps": 3}}, "max_attempts"),
        ({"retry": -1}, "retry"),
        ({"retry": object()}, "retry"),
        ({"timeout": "soon"}, "timeout"),
        ({"queue": 5}, "queue"),
        ({"priority": 300}, "priority"),
        ({"durable": "yes"}, "durable"),
        ({"on_crash": "aks"}, "on_crash is 'aks'; it must be one of retry, fail, ask"),
        ({"on_crash": False}, "on_crash"),
        ({"idempotent": "no"}, "idempotent"),
        ({"idempotent": False, "on_crash": "retry"}, "would do it a second time"),
    ],
)
def test_a_wrong_option_of_the_decorator_is_told_where_it_stands(kit: Kit, options: Any, what: str) -> None:
    with pytest.raises(ConfigError, match=what):
        kit.cascades.step(**options)


def test_with_eager_tasks_a_send_runs_here_and_is_a_session_all_the_same(shop: Any) -> None:
    shop.app.conf.task_always_eager = True
    session = chain(shop.charge.s(1), shop.ship.s())()
    assert session.get() == [1]
    assert shop.ran == ["charge/1", "ship/1"]


def test_the_same_canvas_sent_twice_is_two_sessions(shop: Any) -> None:
    """Celery leaves the id of a plain send on the canvas."""
    canvas = chain(shop.charge.s(1), shop.ship.s())
    canvas.apply_async(durable=False)
    shop.messages()
    first, second = canvas.apply_async(), canvas.apply_async()
    assert first.id != second.id
    shop.deliver()
    assert first.get(timeout=1) == second.get(timeout=1) == [1]


def test_a_canvas_of_no_certain_app_is_celerys_own(shop: Any) -> None:
    """R87: an empty group, or names only: its app is Celery's proxy of the current one."""
    shop.app.set_current()
    assert not isinstance(group([]).apply_async(), Session)
    assert not isinstance(group([]).apply_async((), {}, True), Session)
    assert isinstance(chain(signature("shop.charge", (1,)), signature("shop.ship")).apply_async(), Session)


def test_what_celery_sends_from_inside_a_plain_task_stays_plain(shop: Any) -> None:
    """R87: the body of a plain chord, and what replaces a task: its members are frozen."""
    body = chain(shop.ship.s(), shop.charge.si(1))
    body.freeze("body", group_id="g")
    _task_stack.push(shop.ship)
    try:
        assert not isinstance(body.apply_async(([1],)), Session)
        assert isinstance(chain(shop.charge.s(1), shop.ship.s()).apply_async(), Session)  # the task's own wish
    finally:
        _task_stack.pop()


def test_a_plain_eager_canvas_does_not_make_the_sends_of_its_tasks_plain(shop: Any) -> None:
    kinds = []

    @shop.app.task(name="shop.sender", shared=False)
    def sender() -> None:
        kinds.append(type(shop.charge.delay(1)).__name__)

    shop.app.conf.task_always_eager = True
    group(sender.s(), sender.s()).apply_async(durable=False)
    assert kinds == ["Session", "Session"]


def test_a_timeout_is_celerys_timeout_as_well(shop: Any) -> None:
    with pytest.raises(celery.exceptions.TimeoutError):
        shop.charge.delay(1).get(timeout=0)
