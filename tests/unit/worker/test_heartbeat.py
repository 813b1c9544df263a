from __future__ import annotations

import logging
import threading
from types import SimpleNamespace

import pytest

from celery_cascade.errors import StoreUnavailable
from celery_cascade.persistence.rows import WorkerRow
from celery_cascade.tasks.heartbeat import Heartbeat
from celery_cascade.tasks.ticking import Witness

ROW = WorkerRow(id="w", nodename="n@h", host="h", pid=1)


class FakeStore:
    """Answers beats from a list; the last answer goes on."""

    def __init__(self, *answers) -> None:
        self.answers = list(answers)
        self.added: list[WorkerRow] = []
        self.beats = 0
        self.beaten = threading.Event()

    def beat(self, worker_id: str) -> bool:
        self.beats += 1
        self.beaten.set()
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def add_worker(self, row: WorkerRow) -> None:
        self.added.append(row)


def heartbeat(store: FakeStore, interval: float = 5.0) -> tuple[Heartbeat, Witness]:
    witness = Witness(interval=5, timeout=0)
    config = SimpleNamespace(heartbeat_interval=interval)
    return Heartbeat(SimpleNamespace(store=store, config=config), ROW, witness), witness  # type: ignore[arg-type]


def test_a_beat_makes_a_witness_in_time():
    heart, witness = heartbeat(FakeStore(True))
    heart.beat()
    assert witness.may_judge


def test_a_row_that_is_gone_is_written_again():
    store = FakeStore(False)
    heartbeat(store)[0].beat()
    assert store.added == [ROW]


def test_a_database_that_is_away_is_told_once_and_once_that_it_is_back(caplog: pytest.LogCaptureFixture):
    away = StoreUnavailable("the store does not answer")
    heart, witness = heartbeat(FakeStore(True, away, away, away, True))
    with caplog.at_level(logging.INFO, "celery_cascade"):
        heart.beat()
        for _ in range(3):
            heart.beat()
        assert not witness.may_judge
        heart.beat()
    assert [record.levelname for record in caplog.records] == ["ERROR", "INFO"]
    assert "does not answer" in caplog.records[0].getMessage()


def test_no_error_ends_the_thread():
    store = FakeStore(RuntimeError("a bug"), True)
    heart, witness = heartbeat(store, interval=0.001)
    heart.start()
    assert store.beaten.wait(5)
    while store.beats < 3:
        store.beaten.clear()
        assert store.beaten.wait(5)
    heart.stop()
    beats = store.beats
    assert not heart._thread.is_alive()
    assert heart._thread.daemon
    assert store.beats == beats
    assert witness.may_judge
