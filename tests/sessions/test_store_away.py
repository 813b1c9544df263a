"""The store is away at the worst moments; when it is back, no step is left saying that it runs."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
from celery.exceptions import SoftTimeLimitExceeded
from sqlalchemy import event

from celery_cascade.errors import StoreUnavailable
from celery_cascade.persistence.store import Store
from celery_cascade.tasks import patience
from sessions.kit import Kit
from support.cluster import wait_for


class Away:
    """A store that stops answering, on request, and answers again."""

    def __init__(self, kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
        self.gone = threading.Event()
        for name in ("claim", "checkpoint", "one_running", "setback", "release"):
            self._wrap(monkeypatch, name)

    def _wrap(self, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
        real = getattr(Store, name)

        def call(store: Store, *args: Any, **kwargs: Any) -> Any:
            if self.gone.is_set():
                raise StoreUnavailable("the store is away")
            return real(store, *args, **kwargs)

        monkeypatch.setattr(Store, name, call)


def status(kit: Kit) -> list[tuple[str, str]]:
    return [tuple(row) for row in kit.sql("SELECT step, status FROM session_steps ORDER BY step")]


def test_a_claim_whose_answer_was_lost_for_good_is_given_back(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rule 2: the claim is committed, its answer never comes, and the claimer's patience ends."""
    away = Away(kit, monkeypatch)
    claim = Store.claim

    def claim_and_lose(store: Store, *args: Any, **kwargs: Any) -> Any:
        claim(store, *args, **kwargs)
        away.gone.set()
        raise StoreUnavailable("the answer was lost")

    monkeypatch.setattr(Store, "claim", claim_and_lose)
    session = kit.start("a")
    kit.deliver()
    assert status(kit) == [("a", "running")]
    monkeypatch.setattr(Store, "claim", claim)
    away.gone.clear()
    # Its message comes after the commit that queues it again.
    wait_for(lambda: kit.deliver() and session.ready(), "the step to be given back", 10)
    assert session.result(timeout=0) == 1
    assert kit.ran == ["a/2"]
    assert session.to_dict()["steps"][0]["crashes"] == 0


def test_a_soft_limit_while_the_end_waits_for_the_store_gives_the_step_back(
    kit: Kit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DESIGN.md section 3: a finished body waits for its store until a limit ends the wait."""
    away = Away(kit, monkeypatch)

    @kit.task("late")
    def late() -> int:
        away.gone.set()
        return 7

    def impatient(seconds: float) -> None:
        if threading.current_thread() is threading.main_thread():
            raise SoftTimeLimitExceeded
        time.sleep(seconds)

    session = kit.start({"id": "a", "task": "late"})
    defaults = patience.patiently.__kwdefaults__ or {}
    monkeypatch.setattr(patience.patiently, "__kwdefaults__", defaults | {"sleep": impatient})
    kit.deliver()
    away.gone.clear()
    wait_for(lambda: status(kit) != [("a", "running")], "the step to be given back", 10)
    assert status(kit) == [("a", "queued")]
    assert session.status == "active"


def test_a_soft_limit_in_the_middle_of_a_claim_leaves_nothing_to_commit_later(
    kit: Kit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rule 2: the server may go on with a claim whose client has left; claiming again by the same token settles it."""
    claim, tokens = Store.claim, []

    def interrupted(store: Store, *args: Any, **kwargs: Any) -> Any:
        tokens.append(kwargs["token"])
        if len(tokens) == 1:
            raise SoftTimeLimitExceeded  # the statement is on its way
        return claim(store, *args, **kwargs)

    monkeypatch.setattr(Store, "claim", interrupted)
    session = kit.start("a")
    (message,) = kit.messages()
    kit.receive(message)
    assert tokens[1:] == tokens[:1]
    assert status(kit) == [("a", "queued")]
    kit.deliver()
    assert session.result(timeout=0) == 1
    assert kit.ran == ["a/2"]


def test_a_step_that_ends_on_a_full_disk_is_written_when_there_is_room(kit: Kit) -> None:
    """R122: SQLITE_FULL; told with the folder, and nothing is lost."""

    @kit.task("large")
    def large() -> str:
        limit(room=0)
        threading.Timer(0.5, limit, kwargs={"room": 1000}).start()
        return "x" * 100_000

    def limit(room: int) -> None:
        for connection in {id(record): record for record in seen}.values():
            (count,) = connection.execute("PRAGMA page_count").fetchone()
            connection.execute(f"PRAGMA max_page_count = {count + room}")

    seen: list[Any] = []
    session = kit.start({"id": "a", "task": "large"})
    engine = kit.store.database._own
    event.listen(engine, "checkout", lambda connection, *_: seen.append(connection))
    with kit.store.database.read() as connection:
        connection.exec_driver_sql("SELECT 1")
    kit.deliver()
    assert session.result(timeout=0) == "x" * 100_000
    assert kit.ran == ["a/1"]
