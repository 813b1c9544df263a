"""A user's app with tasks of every kind of forgetfulness, and a book of what they did outside."""

from __future__ import annotations

import multiprocessing
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from celery import Celery

from celery_cascade import current_session
from celery_cascade.app import Cascades
from celery_cascade.testing import CrashReport, crash_test

#: Nobody listens there; the name of the database would be in every error.
NOWHERE = {
    "broker_url": "amqp://canary:secret@127.0.0.1:1//",
    "result_backend": "redis://:secret@127.0.0.1:1/0",
    "cascade_database_url": "postgresql://canary:secret@127.0.0.1:1/canary",
    "cascade_database_patience": 1.0,
}
MEMORY: list[str] = []


class Shop:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.book = folder / "book.txt"
        self.app = Celery("crashshop", set_as_current=False)
        self.app.conf.update(NOWHERE)
        self.cascades = Cascades(self.app)
        add_tasks(self)

    def write(self, line: str) -> None:
        with self.book.open("a") as file:
            file.write(f"{line}\n")

    def effects(self) -> list[str]:
        return self.book.read_text().splitlines() if self.book.exists() else []

    def reset(self) -> None:
        for file in self.folder.glob("*.txt"):
            file.unlink()

    def crash(self, *tasks: str, points: str | Sequence[str] = "body_ended", **options: Any) -> CrashReport:
        """A crash test of a cascade whose steps are these tasks, one after the other, each named as its task."""
        target = {"cascade": "shop", "steps": [{"id": name, "task": f"shop.{name}"} for name in tasks]}
        given: dict[str, Any] = {"effects": self.effects, "reset": self.reset, "in_body": 0, "timeout": 60} | options
        return crash_test(self.app, given.pop("target", target), given.pop("inputs", None), points=points, **given)


def add_tasks(shop: Shop) -> None:
    def task(function: Any) -> Any:
        return shop.app.task(name=f"shop.{function.__name__}", shared=False)(function)

    @task
    def careful() -> str:
        session = current_session()
        assert session is not None
        if session.idempotency_key not in shop.effects():
            shop.write(session.idempotency_key)
        return "paid"

    @task
    def careless() -> str:
        shop.write("mail")
        return "sent"

    @task
    def halfway() -> str:
        """Remembers that it has begun, and takes that for done."""
        if "begun" not in shop.effects():
            shop.write("begun")
            shop.write("done")
        return "done"

    @task
    def keeps_in_memory() -> None:
        MEMORY.append("parcel")

    @task
    def reads_memory() -> list[str]:
        return MEMORY

    @task
    def counts() -> int:
        """In a file."""
        file = shop.folder / "count.txt"
        number = int(file.read_text()) + 1 if file.exists() else 1
        file.write_text(str(number))
        return number

    @task
    def random() -> dict[str, Any]:
        return {"token": time.monotonic_ns(), "word": "same"}

    @task
    def hangs_the_second_time() -> None:
        file = shop.folder / "been.txt"
        if file.exists():
            time.sleep(60)
        file.touch()

    @task
    def slow() -> str:
        shop.write("a")
        time.sleep(0.3)
        shop.write("b")
        return "slow"

    @task
    def fails_once() -> str:
        file = shop.folder / "failed.txt"
        if not file.exists():
            file.touch()
            raise ValueError("not yet")
        return "at last"

    @task
    def breaks() -> None:
        raise ValueError("it is broken")

    @task
    def starts_processes() -> int:
        """Nobody waits for them: they would write long after this body has ended."""
        fork = multiprocessing.get_context("fork")
        fork.Process(target=write_late, args=(shop, 2.0)).start()
        threading.Thread(target=write_late, args=(shop, 2.0), daemon=True).start()
        return 1

    @task
    def sends() -> None:
        shop.app.tasks["shop.careless"].delay()
        shop.cascades.start({"cascade": "other", "steps": [{"id": "x", "task": "shop.careless"}]})

    @task
    def joined(words: list[str]) -> str:
        return " and ".join(words)


def write_late(shop: Shop, seconds: float) -> None:
    time.sleep(seconds)
    shop.write("late")
