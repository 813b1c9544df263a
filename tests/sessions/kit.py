"""A project in this process: an app with a memory broker, tasks that keep notes, and a store of one of the databases.

No worker process: sessions are run here and now, or `deliver()` plays the worker for what was published.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from celery import Celery
from sqlalchemy import func, select, text

from celery_cascade import Cascades, Session, current_session
from celery_cascade.persistence import tables
from celery_cascade.persistence.store import Store
from celery_cascade.tasks import recovery
from celery_cascade.tasks.attempt import SESSION_HEADER, STEP_HEADER
from celery_cascade.tasks.local_worker import local_worker
from celery_cascade.tasks.runtime import Runtime

CHAIN = """\
cascade: chain   # three steps, one after the other
inputs: {n: {type: integer, default: 0}}
steps:
  - {id: a, task: add, with: {x: "{{ inputs.n }}"}}
  - {id: b, task: add, with: {x: "{{ outputs.a }}"}}
  - {id: c, task: add, with: {x: "{{ outputs.b }}"}}
"""
BODY_TABLES = (tables.sessions, tables.heads, tables.steps, tables.definitions, tables.attempts, tables.actions)


class Kit:
    """An app with its `Cascades`, and what a test asks of them.

    Args:
        url: of the store; None = the embedded one in `folder`.
        folder: where cascade files go.
        settings: of Celery, ours included.
    """

    def __init__(self, url: str | None, folder: Path, **settings: Any) -> None:
        self.folder = folder
        self.url = url
        self.ran: list[str] = []  #: steps whose body ran, in that order, as "step/attempt"
        self.fix: set[str] = set()  #: words that tasks look at: what the test has repaired
        self.queue = f"q-{uuid.uuid4().hex}"
        self.app = Celery("proj", broker="memory://", set_as_current=False)
        quick = {"cascade_timer_interval": 0.05, "cascade_database_patience": 0.2, "task_default_queue": self.queue}
        store = {"cascade_database_url": url} if url else {"cascade_home": str(folder / "home")}
        self.app.conf.update({**quick, **store, **settings})
        self.cascades = Cascades(self.app)
        self._add_tasks()

    def again(self, **settings: Any) -> Kit:
        """The same store in a new process, as far as our objects go: nothing is remembered but what SQL holds."""
        return Kit(self.url, self.folder, **settings)

    # -- tasks
    def task(self, name: str, **options: Any) -> Callable[[Callable[..., Any]], Any]:
        """A task that notes which step ran it."""

        def decorate(body: Callable[..., Any]) -> Any:
            def noted(*args: Any, **kwargs: Any) -> Any:
                self.note()
                return body(*args, **kwargs)

            return self.app.task(name=name, shared=False, **options)(noted)

        return decorate

    def note(self) -> None:
        session = current_session()
        self.ran.append("plain" if session is None else f"{session.step}/{session.attempt}")

    def _add_tasks(self) -> None:
        @self.task("add")
        def add(x: int = 0, y: int = 1) -> int:
            return x + y

        @self.task("echo")
        def echo(*args: Any, **kwargs: Any) -> Any:
            return kwargs or (args[0] if len(args) == 1 else list(args))

        @self.task("broken")
        def broken(word: str = "fixed", value: Any = None) -> Any:
            """Fails until the test has fixed it."""
            if word not in self.fix:
                raise ValueError(f"{word} is not there")
            return value

        @self.task("gives")
        def gives(what: str) -> Any:
            return {"set": {"deep": [1, {2, 3}]}, "big": "x" * 5000, "nan": float("nan"), "null": None}[what]

    @property
    def counts(self) -> Counter[str]:
        """How often the body of each step ran."""
        return Counter(entry.partition("/")[0] for entry in self.ran)

    # -- sessions
    def file(self, body: str | bytes, name: str = "order.yaml") -> str:
        path = self.folder / name
        path.write_bytes(body if isinstance(body, bytes) else body.encode())
        return str(path)

    def run(self, *steps: Mapping[str, Any] | str, inputs: Mapping[str, Any] | None = None, **options: Any) -> Session:
        return self.cascades.run(cascade(*steps), inputs, **options)

    def start(
        self, *steps: Mapping[str, Any] | str, inputs: Mapping[str, Any] | None = None, **options: Any
    ) -> Session:
        return self.cascades.start(cascade(*steps), inputs, **options)

    # -- the broker and a worker
    def messages(self) -> list[Any]:
        """What was published and not yet taken."""
        found = []
        with self.app.connection_for_read() as connection:
            channel = connection.default_channel
            self.app.amqp.queues[self.queue](channel).declare()
            while (message := channel.basic_get(self.queue, no_ack=True)) is not None:
                found.append(message)
        return found

    def deliver(self, most: int = 100) -> int:
        """Be a worker until there are no messages; returns how many there were."""
        done = 0
        with local_worker(self.runtime):
            while found := self.messages():
                for message in found:
                    self.receive(message)
                    done += 1
                    assert done < most, "messages without end"
        return done

    def receive(self, message: Any) -> Any:
        headers = message.headers
        task = self.app.tasks[headers["task"]]
        ours = {name: headers[name] for name in (SESSION_HEADER, STEP_HEADER) if name in headers}
        args, kwargs, _ = message.payload
        return task.apply(args, kwargs, task_id=headers["id"], retries=headers["retries"], throw=False, headers=ours)

    # -- the store
    @property
    def runtime(self) -> Runtime:
        return self.cascades.runtime

    @property
    def store(self) -> Store:
        return self.runtime.store

    def rows(self) -> dict[str, int]:
        """How many rows each table of sessions has."""
        with self.store.database.read() as conn:
            return {t.name: conn.execute(select(func.count()).select_from(t)).scalar() or 0 for t in BODY_TABLES}

    def sql(self, statement: str, **values: Any) -> list[Any]:
        """Somebody with a SQL client."""

        def work(conn: Any) -> list[Any]:
            result = conn.execute(text(statement), values)
            return list(result) if result.returns_rows else []

        return self.store.database.transaction(work)

    def recover(self) -> recovery.RecoveryReport:
        return recovery.recover(self.runtime, witness=False)


def cascade(*steps: Mapping[str, Any] | str, **more: Any) -> dict[str, Any]:
    """A definition; a step that is only an id runs `add`."""
    written = [{"id": step, "task": "add"} if isinstance(step, str) else dict(step) for step in steps]
    return {"cascade": "test", "steps": written, **more}
