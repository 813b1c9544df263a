"""Whether a task takes a step's arguments: what is certain, what is a doubt, and what is left alone."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery, Task

from celery_cascade.tasks.arguments import Mismatch, mismatch
from celery_cascade.tasks.guard import install_guard


@pytest.fixture(params=[False, True], ids=["plain", "guarded"])
def app(request: pytest.FixtureRequest) -> Iterator[Celery]:
    app = Celery("x", set_as_current=False)
    if request.param:
        install_guard(app, object())
    yield app
    app.close()


def charge(order_id: int, amount: int = 1, *, note: str = "") -> None: ...


@pytest.mark.parametrize(
    ("given", "what", "key"),
    [
        ({"order_id": 1}, None, None),
        ({"order_id": 1, "amount": 2, "note": "x"}, None, None),
        ([1], None, None),
        ([1, 2], None, None),
        ({"oder_id": 1}, "takes no argument 'oder_id'; did you mean 'order_id'?", "oder_id"),
        ({"order_id": 1, "zzz": 1}, "takes no argument 'zzz'; it takes amount, note, order_id", "zzz"),
        ({}, "needs the argument order_id, which with does not give", None),
        ({"amount": 1}, "needs the argument order_id", None),
        ([], "needs the argument order_id", None),
        ([1, 2, 3], "takes at most 2 positional arguments, and with gives 3", None),
    ],
)
def test_a_plain_task_is_told_what_is_too_much_or_too_little(
    app: Celery, given: Any, what: str | None, key: str | None
) -> None:
    """R150: before the start, with the nearest right word; the place is that of the argument."""
    task = app.task(charge, shared=False)
    app.finalize()
    found = mismatch(app.tasks[task.name], given)
    if what is None:
        assert found is None
    else:
        assert found is not None
        assert what in found.what
        assert (found.key, found.certain) == (key, True)


def check(app: Celery, task: Any, given: Any) -> Mismatch | None:
    app.finalize()
    return mismatch(app.tasks[task.name], given)


def test_a_bound_task_has_its_own_arguments_only(app: Celery) -> None:
    @app.task(bind=True, shared=False)
    def bound(self: Any, x: int) -> None: ...

    assert check(app, bound, {"x": 1}) is None
    assert check(app, bound, [1]) is None
    found = check(app, bound, {"self": 1, "x": 1})
    assert found is not None
    assert found.key == "self"
    assert "takes at most 1 positional" in str(check(app, bound, [1, 2]))


def test_a_task_that_takes_anything_takes_anything(app: Celery) -> None:
    @app.task(shared=False)
    def anything(*args: Any, **kwargs: Any) -> None: ...

    @app.task(shared=False)
    def some(x: int, **kwargs: Any) -> None: ...

    assert (
        check(app, anything, {"a": 1}) is check(app, anything, [1, 2, 3]) is check(app, some, {"x": 1, "y": 2}) is None
    )
    assert "needs the argument x" in str(check(app, some, {"y": 2}))


def test_a_positional_argument_may_be_given_by_its_place(app: Celery) -> None:
    @app.task(shared=False)
    def placed(x: int, /) -> None: ...

    assert check(app, placed, [1]) is None
    assert check(app, placed, [1, 2]) is not None


def test_typing_false_switches_it_off_as_in_celery(app: Celery) -> None:
    task = app.task(charge, shared=False, typing=False)
    assert check(app, task, {"zzz": 1}) is None


def test_an_app_without_strict_typing_is_left_alone() -> None:
    app = Celery("x", set_as_current=False, strict_typing=False)
    assert check(app, app.task(charge, shared=False), {"zzz": 1}) is None
    app.close()


def test_a_decorator_that_takes_anything_is_believed(app: Celery) -> None:
    """A check that can be wrong must not refuse; Celery, too, asks the outermost function."""

    def with_database(function: Any) -> Any:
        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            return function("database", *args, **kwargs)

        return wrapper

    @app.task(shared=False)
    @with_database
    def stored(database: str, x: int) -> None: ...

    assert check(app, stored, {"x": 1}) is None
    assert stored(x=1) is None


def test_a_class_that_calls_in_its_own_way_is_a_doubt(app: Celery) -> None:
    class WithDatabase(Task):
        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            return self.run(*args, database=1, **kwargs)

    @app.task(shared=False, base=WithDatabase)
    def stored(x: int, database: int) -> None: ...

    found = check(app, stored, {"x": 1})
    assert found is not None
    assert not found.certain


def test_a_task_of_a_class_is_checked_by_its_run(app: Celery) -> None:
    class Charge(Task):
        name = "charge"

        def run(self, order_id: int) -> None: ...

    task = app.register_task(Charge())
    assert check(app, task, {"order_id": 1}) is None
    found = check(app, task, {"oder_id": 1})
    assert found is not None
    assert found.certain


def test_a_task_that_retries_by_itself_is_checked_under_the_wrapper(app: Celery) -> None:
    @app.task(shared=False, autoretry_for=(OSError,))
    def retried(x: int) -> None: ...

    assert check(app, retried, {"x": 1}) is None
    found = check(app, retried, {"y": 1})
    assert found is not None
    assert found.certain


def test_a_function_without_arguments_says_so(app: Celery) -> None:
    @app.task(shared=False)
    def none() -> None: ...

    assert "takes none by name" in str(check(app, none, {"x": 1}))
    assert "takes no positional arguments, and with gives 1" in str(check(app, none, [1]))
