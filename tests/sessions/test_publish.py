"""What goes to the broker, what happens when it does not take it, and our own tasks that others send by name."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from celery_cascade.errors import ConfigError, DefinitionError, UsageError
from celery_cascade.tasks import recovery
from sessions.kit import CHAIN, Kit, cascade


def test_a_message_bears_the_step_and_no_data(kit: Kit) -> None:
    """R158: two headers, the store's id among them; arguments stay in SQL."""
    session = kit.start({"id": "a", "task": "add", "with": {"x": 7}})
    (message,) = kit.messages()
    assert message.payload[:2] == [[], {}]
    header = message.headers["cascade_step"]
    assert message.headers["cascade_session"] == header["session"] == session.id
    assert (header["step"], header["item"], header["attempt"]) == ("a", -1, 1)
    assert header["task_id"] == message.headers["id"]
    assert header["store"] == kit.runtime.store_id
    assert message.headers["ignore_result"] is True
    kit.receive(message)
    assert session.output == 8


def test_queue_priority_and_time_limit_reach_the_message(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step's own words win over `cascade_queue`; without any its task is routed as ever."""
    sent = capture(kit, monkeypatch)
    step = {"id": "a", "task": "add", "needs": [], "queue": "slow", "priority": 7, "timeout": "90s"}
    kit.start(step, {"id": "b", "task": "add", "needs": []})
    assert (sent["a"]["queue"], sent["a"]["priority"], sent["a"]["time_limit"]) == ("slow", 7, 90)
    assert {"queue", "priority", "time_limit"}.isdisjoint(sent["b"])


def test_steps_without_a_queue_go_to_cascade_queue(
    make_kit: Callable[..., Kit], sqlite_store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    kit = make_kit(sqlite_store, cascade_queue="steps")
    sent = capture(kit, monkeypatch)
    kit.start({"id": "a", "task": "add", "needs": []}, {"id": "b", "task": "add", "needs": [], "queue": "own"})
    assert (sent["a"]["queue"], sent["b"]["queue"]) == ("steps", "own")


def capture(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    sent: dict[str, Any] = {}
    monkeypatch.setattr(
        kit.app, "send_task", lambda name, **options: sent.update({options["headers"]["cascade_step"]["step"]: options})
    )
    return sent


@pytest.mark.parametrize(
    "error", [OSError("down"), RuntimeError("OOM command not allowed"), ValueError("a driver's own")]
)
def test_a_broker_that_fails_neither_fails_the_start_nor_the_checkpoint(
    kit: Kit, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """Rule 1: a publish that raises, whatever it raises, wakes in 5 s and never fails a checkpointed step."""

    def refuse(*_: Any, **__: Any) -> None:
        raise error

    with monkeypatch.context() as broken:
        broken.setattr(kit.app, "send_task", refuse)
        session = kit.start("a", "b")
        assert session.status == "active"
    soon = "SELECT count(*) FROM session_steps WHERE wake_at < datetime('now', '+6 seconds') AND status = 'queued'"
    assert kit.sql(soon)[0][0] == 1
    kit.sql("UPDATE session_steps SET wake_at = '2001-01-01 00:00:00.000000' WHERE status = 'queued'")
    assert recovery.send_due(kit.runtime) == 1
    (first,) = kit.messages()
    with monkeypatch.context() as broken:
        broken.setattr(kit.app, "send_task", refuse)
        kit.receive(first)
    assert [step["status"] for step in session.steps] == ["succeeded", "queued"]
    assert session.attempts == []


def test_a_message_that_comes_twice_runs_once(kit: Kit) -> None:
    """D11, R69: duplicates, late ones and those of an earlier attempt are acked and do nothing."""
    session = kit.start("a", "b")
    (message,) = kit.messages()
    for _ in range(3):
        kit.receive(message)
    kit.deliver()
    assert kit.ran == ["a/1", "b/1"]
    assert session.version == 4


def test_a_message_of_another_store_does_nothing(
    kit: Kit, make_kit: Callable[..., Kit], caplog: pytest.LogCaptureFixture
) -> None:
    """R158: acked, and told with both locations."""
    other = make_kit(None)
    session = kit.start("a")
    (message,) = kit.messages()
    with caplog.at_level("ERROR", "celery_cascade"):
        other.receive(message)
    assert f"a message of session {session.id} belongs to store {kit.runtime.store_id}" in caplog.text
    assert f"{kit.folder / 'store.sqlite'} on " in caplog.text  # both places
    assert f"{kit.folder / 'home' / 'store.sqlite'} on " in caplog.text
    assert other.runtime.store_id in caplog.text
    kit.receive(message)
    assert session.status == "completed"


def test_a_message_for_a_session_that_is_gone_does_nothing(kit: Kit) -> None:
    """R153: pruned or deleted in the meantime."""
    session = kit.start("a")
    (message,) = kit.messages()
    kit.store.delete_session(session.id)
    kit.receive(message)
    assert kit.ran == []


def test_a_registered_cascade_is_started_by_name_from_anywhere(kit: Kit) -> None:
    """R159, R8: by Beat or another program; what it started is recorded as any other session."""
    assert kit.cascades.register(kit.file(CHAIN)) == "chain"
    kit.app.send_task("celery_cascade.start", args=["chain", {"n": 2}], kwargs={"tags": ["beat"]}, queue=kit.queue)
    kit.deliver()
    (session,) = kit.cascades.sessions(cascade="chain")
    assert (session.output, session.to_dict()["tags"]) == (5, ["beat"])
    assert kit.store.session(session.id)["trigger"] == "task"
    assert session.definition.decode() == CHAIN


def test_nothing_that_comes_over_the_wire_chooses_a_file(kit: Kit) -> None:
    """R159: never a path, a text or a mapping; an unknown name is told with the nearest right one."""
    path = kit.file(CHAIN)
    kit.cascades.register(path)
    start = kit.app.tasks["celery_cascade.start"]
    for name in (path, "order.yaml", "./order.yaml", "/etc/passwd", CHAIN, "", "../order.yaml"):
        with pytest.raises(UsageError, match="no cascade is registered as"):
            start(name)
    with pytest.raises(UsageError, match="did you mean 'chain'"):
        start("chian")
    for wrong in (cascade("a"), None, ["chain"], 7):
        with pytest.raises((UsageError, TypeError)):
            start(wrong)
    with pytest.raises(UsageError, match="no option 'sesion_id'; did you mean 'session_id'"):
        start("chain", sesion_id="x")
    for options in ({"expires_in": "soon"}, {"tags": "x"}, {"tags": 7}, {"expires_in": True}, {"mode": None}):
        with pytest.raises(UsageError):
            start("chain", **options)
    assert kit.rows()["cascade_sessions"] == 0


def test_the_settings_register_cascades(make_kit: Callable[..., Kit], sqlite_store: str, tmp_path: Any) -> None:
    """R159: `cascade_definitions` are glob patterns, read when a name is asked for."""
    kit = make_kit(sqlite_store, cascade_definitions=[str(tmp_path / "*.yaml")])
    kit.file(CHAIN)
    session_id = kit.app.tasks["celery_cascade.start"]("chain")
    kit.deliver()
    assert kit.cascades.session(session_id).output == 3


def test_two_files_of_one_name_are_told(kit: Kit) -> None:
    """R150: the second would silently replace the first."""
    kit.cascades.register(kit.file(CHAIN))
    kit.cascades.register(kit.folder / "order.yaml")
    with pytest.raises(ConfigError, match="'chain' is registered already"):
        kit.cascades.register(kit.file(CHAIN, "other.yaml"))
    with pytest.raises(UsageError, match="only a cascade file"):
        kit.cascades.register(cascade("a"))  # type: ignore[arg-type]
    with pytest.raises(DefinitionError, match="did you mean 'chain'"):
        kit.cascades.start("chian")
    assert kit.cascades.start("chain").status == "active"


def test_the_filesystem_broker_is_refused(make_kit: Callable[..., Kit], sqlite_store: str) -> None:
    """R150: it delivers half-written messages; nothing is started, and the way out is told."""
    kit = make_kit(sqlite_store)
    before = kit.rows()
    kit.app.conf.broker_url = "filesystem://"
    with pytest.raises(ConfigError, match="filesystem://") as told:
        kit.start("a")
    assert "embedded()" in told.value.hint
    assert kit.rows() == before
    assert kit.run("a").output == 1  # which needs no broker


def test_a_plain_task_knows_nothing_of_sessions(kit: Kit) -> None:
    """R87: called, applied or sent outside of a session it is what it was, and costs no SQL."""
    add = kit.app.tasks["add"]
    assert (add(1), add.apply(args=[2]).get(), add.s(3).apply().get()) == (2, 3, 4)
    add.apply_async(args=[4], queue=kit.queue)
    (message,) = kit.messages()
    assert not [name for name in message.headers if name.startswith("cascade")]
    assert kit.receive(message).get() == 5
    assert kit.ran == ["plain"] * 4
    assert kit.runtime._store is None  # nobody asked for the store
    assert json.dumps(message.payload[0]) == "[4]"
