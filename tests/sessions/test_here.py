"""Running in this process: a loop and not recursion, eager mode, threads, other sessions started from a step."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from celery_cascade import current_session, run_cascade
from celery_cascade.app import cascades_of
from celery_cascade.errors import CascadeError, ConfigError, DefinitionError
from celery_cascade.persistence.rows import StepKey
from celery_cascade.tasks import recovery
from celery_cascade.tasks.driver import drive
from sessions.kit import Kit, cascade


def chain(length: int) -> dict[str, Any]:
    return cascade(
        *(
            {"id": f"s{n}", "task": "add", "with": {"x": f"{{{{ outputs.s{n - 1} }}}}" if n else 0}}
            for n in range(length)
        )
    )


def test_a_thousand_steps_run_in_bounded_time_and_stack(kit: Kit) -> None:
    """No step calls the next: the stack is as deep at the last as at the first; step 1,000 costs what step 10 costs."""
    depths: list[int] = []
    plain = kit.app.tasks["add"].run

    def add(*args: Any, **kwargs: Any) -> Any:
        import inspect

        if len(depths) in (10, 999):
            depths.append(len(inspect.stack(0)))
        else:
            depths.append(0)
        return plain(*args, **kwargs)

    kit.app.tasks["add"].run = add
    began = time.monotonic()
    session = kit.cascades.run(chain(1000))
    assert session.output == 1000
    assert time.monotonic() - began < 20
    assert depths[10] == depths[999] > 0
    assert len(kit.ran) == len(set(kit.ran)) == 1000


def test_eager_mode_runs_a_session_at_once(make_kit: Callable[..., Kit], sqlite_store: str) -> None:
    """task_always_eager: start() returns when it is done, 200 steps are no recursion, and nothing is published."""
    kit = make_kit(sqlite_store, task_always_eager=True)
    session = kit.cascades.start(chain(200))
    assert (session.status, session.output) == ("completed", 200)
    assert kit.messages() == []


def test_eager_mode_resumes_at_once(make_kit: Callable[..., Kit], sqlite_store: str) -> None:
    """resume() as start(): by hand and by the task."""
    kit = make_kit(sqlite_store, task_always_eager=True)
    session = kit.start("a", {"id": "b", "task": "broken"})
    assert session.status == "failed"
    session.resume()
    assert session.status == "failed"
    kit.fix.add("fixed")
    assert kit.app.tasks["celery_cascade.resume"](session.id, force=True) == {"resumed": [session.id], "skipped": {}}
    assert session.status == "completed"
    assert kit.counts == {"a": 1, "b": 3}
    assert kit.messages() == []


def test_eager_mode_inside_a_step_runs_the_inner_session_too(make_kit: Callable[..., Kit], sqlite_store: str) -> None:
    kit = make_kit(sqlite_store, task_always_eager=True)

    @kit.task("starts")
    def starts() -> Any:
        return kit.start("x", "y").output

    assert kit.start({"id": "a", "task": "starts"}, "b").output == 1
    assert kit.ran == ["a/1", "x/1", "y/1", "b/1"]


def test_a_session_started_inside_a_step_goes_to_the_workers(kit: Kit) -> None:
    """What runs here is this session alone: another one that a step starts is published as ever."""
    inner = []

    @kit.task("starts")
    def starts() -> None:
        inner.append(kit.start("x", "y"))

    assert kit.run({"id": "a", "task": "starts"}).status == "completed"
    assert [message.headers["cascade_session"] for message in kit.messages()] == [inner[0].id]
    wake_at = kit.sql("SELECT wake_at FROM session_steps WHERE session_id = :id", id=inner[0].id)
    assert wake_at[0].wake_at is not None  # and should the message be lost, it is sent again


def test_a_session_run_inside_a_step_is_a_session_of_its_own(kit: Kit) -> None:
    """run_cascade in a step: the inner one has run when it returns, whoever runs the outer one."""

    @kit.task("runs")
    def runs() -> Any:
        before = current_session()
        output = run_cascade(cascade("x", "y"), app=kit.app)
        assert current_session() == before
        return output

    assert kit.run({"id": "a", "task": "runs"}).output == 1
    outer = kit.start({"id": "a", "task": "runs"}, "b")
    kit.deliver()
    assert outer.output == 1


def test_threads_that_run_sessions_at_once_share_one_worker(kit: Kit) -> None:
    """The first that ends says no goodbye for the others: nobody takes what they still run for lost."""
    go, begun = threading.Event(), threading.Event()

    @kit.task("holds")
    def holds() -> str:
        begun.set()
        go.wait(10)
        return "held"

    slow: list[Any] = []
    thread = threading.Thread(target=lambda: slow.append(kit.run({"id": "slow", "task": "holds"})))
    thread.start()
    assert begun.wait(10)
    kit.run("quick")
    assert recovery.recover(kit.runtime, witness=False).released == 0
    assert kit.runtime.worker_id is not None
    go.set()
    thread.join(10)
    assert slow[0].output == "held"
    assert slow[0].attempts == []
    assert kit.ran.count("slow/1") == 1
    assert kit.runtime.worker_id is None
    assert kit.store.running_workers() == []


def test_what_another_driver_left_behind_is_not_taken_from_the_workers(kit: Kit) -> None:
    """A run here looks after its own session alone: another's orphan would be queued where nobody sends it."""
    other = kit.start("x")
    claimed = kit.store.claim(StepKey(other.id, "x"), attempt=1, token="t", worker="long-gone", runner="1.1")
    assert claimed is not None
    kit.run("a", "b")
    assert other.steps[0]["status"] == "running"
    assert kit.recover().released == 1
    kit.deliver()
    assert other.status == "completed"


def test_a_driver_that_stops_leaves_its_steps_to_the_workers(kit: Kit) -> None:
    """R127: Ctrl+C in a body: the session is active, and the next worker's look sends the step."""

    @kit.task("interrupted")
    def interrupted() -> str:
        session = current_session()
        assert session is not None
        if session.attempt == 1:
            raise KeyboardInterrupt
        return "again"

    with pytest.raises(KeyboardInterrupt):
        kit.run({"id": "a", "task": "interrupted"}, "b", session_id="mine")
    session = kit.cascades.session("mine")
    assert (session.status, session.steps[0]["crashes"]) == ("active", 0)
    assert kit.store.running_workers() == []
    kit.recover()
    assert recovery.send_due(kit.runtime) == 1
    kit.deliver()
    assert session.status == "completed"


def test_a_body_that_exits_is_a_crash_and_runs_again(kit: Kit) -> None:
    """D11, R81: SystemExit ends this program, not the session; the same call again goes on."""

    @kit.task("exits")
    def exits() -> str:
        session = current_session()
        assert session is not None
        if session.attempt == 1:
            raise SystemExit(3)
        return "second"

    given = cascade("a", {"id": "b", "task": "exits"})
    with pytest.raises(SystemExit):
        kit.cascades.run(given, session_id="mine")
    assert kit.cascades.run(given, session_id="mine").output == "second"
    assert kit.ran == ["a/1", "b/1", "b/2"]
    assert kit.cascades.session("mine").steps[1]["crashes"] == 1


def test_a_task_that_is_not_there_any_more_is_named(kit: Kit, make_kit: Callable[..., Kit]) -> None:
    """R150: the session stays as it was, and goes on where the task is known."""

    @kit.task("moved")
    def moved() -> str:
        return "here"

    session = kit.start("a", {"id": "b", "task": "moved"})
    later = make_kit(kit.url)
    found = later.cascades.session(session.id)
    with pytest.raises(DefinitionError, match=f"session {session.id}: step 'b': task 'moved' is not registered"):
        drive(later.runtime, session.id)
    assert found.status == "active"
    drive(kit.runtime, session.id)
    assert found.output == "here"


def test_a_claim_that_fails_ends_the_run_instead_of_spinning(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is run twice, the error comes out, and the step stays queued."""
    session = kit.start("a")
    tries = []

    def claim(*_: Any, **__: Any) -> None:
        tries.append(1)
        raise CascadeError("no claim today")

    monkeypatch.setattr(kit.runtime.runner, "claim", claim)
    with pytest.raises(CascadeError, match="no claim today"):
        drive(kit.runtime, session.id)
    assert len(tries) == 1
    assert session.steps[0]["status"] == "queued"


def test_the_app_is_found_by_argument_environment_or_as_the_current_one(
    kit: Kit, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """D13: in this order; the error names all three."""
    (tmp_path / "found_app.py").write_text(
        "from celery import Celery\n"
        "app = Celery('found', broker='memory://', set_as_current=False)\n"
        f"app.conf.cascade_database_url = {kit.url!r}\n"
        "@app.task(name='theirs', shared=False)\ndef theirs(): return 'theirs'\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("CELERY_APP", "found_app")
    theirs = cascade({"id": "a", "task": "theirs"})
    assert run_cascade(theirs) == "theirs"
    assert run_cascade(theirs, app="found_app:app") == "theirs"
    with pytest.raises(DefinitionError, match="not registered in app 'proj'"):
        run_cascade(theirs, app=kit.app)
    monkeypatch.setenv("CELERY_APP", "no_such_module_here")
    with pytest.raises(ConfigError, match="'no_such_module_here' cannot be loaded") as told:
        run_cascade(theirs)
    for way in ("app=", "CELERY_APP", "import the module"):
        assert way in told.value.hint


def test_an_app_has_one_cascades_however_often_it_is_asked(kit: Kit) -> None:
    assert cascades_of(kit.app) is kit.cascades
    other = Celery("other", set_as_current=False)
    assert cascades_of(other) is cascades_of(other)


def test_cascades_without_an_app_say_so(kit: Kit) -> None:
    """R150: what to call first."""
    from celery_cascade import Cascades

    with pytest.raises(ConfigError, match="no Celery app yet") as told:
        Cascades().start("order.yaml")
    assert "init_app" in told.value.hint
    late = Cascades()
    assert late.init_app(kit.app) is late
    assert late.run(cascade("a")).output == 1
