"""Stacks of a broker and a store by name: `embedded`, `redis-postgresql`, `rabbitmq-mariadb`, and every other mix."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import kombu
import pytest
import sqlalchemy as sa

from support import services, stores

DEFAULT = ("embedded", "redis-postgresql", "rabbitmq-mariadb")
BROKERS = ("embedded", "redis", "rabbitmq")
DATABASES = ("sqlite", "postgresql", "mariadb")
PROPERTY = "stack"  # of a test's report


@dataclass(frozen=True)
class Stack:
    """A broker and a store; None = the embedded default."""

    name: str
    broker_url: str | None = None
    database_url: str | None = None
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Parts:
    """What a stack's name says."""

    broker: str
    database: str

    @property
    def services(self) -> list[str]:
        """The servers that have to be there."""
        return [name for name in (self.broker, self.database) if name in services.SERVICES]

    @property
    def has_server(self) -> bool:
        """Whether its broker is a server: Celery has an event loop there, and several projects can share it."""
        return self.broker != "embedded"


def parts(name: str) -> Parts:
    """Raises UsageError with the names that there are."""
    broker, _, database = name.partition("-")
    if name == "embedded":
        database = "sqlite"
    if broker not in BROKERS or database not in DATABASES:
        raise pytest.UsageError(
            f"--stack {name}: there is no such stack; it is `embedded`, or BROKER-DATABASE with a broker of "
            f"{', '.join(BROKERS)} and a database of {', '.join(DATABASES)}"
        )
    return Parts(broker, database)


@contextmanager
def opened(name: str) -> Iterator[Stack]:
    """The stack with a broker of its own and a database of its own that has our tables, both empty."""
    found = parts(name)
    with ExitStack() as stack:
        broker = stack.enter_context(broker_url(found.broker))
        database = stack.enter_context(database_url(found.database))
        yield Stack(name, broker_url=broker, database_url=database)


@contextmanager
def broker_url(kind: str) -> Iterator[str | None]:
    with ExitStack() as stack:
        if kind == "redis":
            yield stack.enter_context(services.redis_url())
        elif kind == "rabbitmq":
            yield stack.enter_context(services.rabbitmq_vhost())
        else:
            yield None


@contextmanager
def database_url(kind: str) -> Iterator[str | None]:
    """With our tables in it; None = the project's own file."""
    if kind == "sqlite":
        yield None
    else:
        with stores.migrated_url(kind) as url:
            yield url


def flush(stack: Stack, folder: Path) -> int:
    """Throw away every message of the stack's broker; how many there were in Celery's own queue.

    Redis forgets the queue as well; of RabbitMQ's queue the messages are purged that no worker holds.
    """
    broker = parts(stack.name).broker
    if broker == "redis":
        import redis

        with redis.Redis.from_url(stack.broker_url) as client:
            count = client.llen("celery")
            client.flushdb()
            return count
    if broker == "rabbitmq":
        with kombu.Connection(stack.broker_url) as connection:
            return connection.default_channel.queue_purge("celery")
    engine = sa.create_engine(f"sqlite:///{folder / '.cascade' / 'broker.sqlite'}")
    with engine.begin() as connection:
        count = connection.execute(sa.text("DELETE FROM kombu_message")).rowcount
    engine.dispose()
    return count


def take_queue(stack: Stack) -> None:
    """Delete Celery's own queue with what is in it, under whoever reads it."""
    if parts(stack.name).broker == "redis":
        flush(stack, Path())
        return
    with kombu.Connection(stack.broker_url) as connection:
        connection.default_channel.queue_delete("celery")


def parameters(names: Iterable[str], *, with_server: bool) -> list:
    """A test's parameters: one a stack, marked with the servers that it needs."""
    chosen = [name for name in dict.fromkeys(names) if parts(name).has_server or not with_server]
    return [
        pytest.param(name, id=name, marks=[getattr(pytest.mark, service) for service in parts(name).services])
        for name in chosen
    ]


def note(item: pytest.Item) -> None:
    """Let a test's reports say which stack it ran on; xdist carries that to the process that prints."""
    callspec = getattr(item, "callspec", None)
    name = callspec.params.get("stack") if callspec is not None else None
    if name is not None:
        item.user_properties.append((PROPERTY, name))


def summary(stats: dict[str, list]) -> str:
    """How many tests each stack passed; empty when none ran on a stack."""
    counts: dict[str, Counter[str]] = {}
    for word, reports in {"passed": "passed", "failed": "failed", "error": "failed", "skipped": "skipped"}.items():
        for report in stats.get(word, []):
            for key, name in getattr(report, "user_properties", ()):
                if key == PROPERTY:
                    counts.setdefault(name, Counter())[reports] += 1
    order = [*DEFAULT, *sorted(set(counts) - set(DEFAULT))]
    words = [
        f"{name} {counts[name]['passed']} passed, {counts[name]['failed']} failed, {counts[name]['skipped']} skipped"
        for name in order
        if name in counts
    ]
    return "stacks: " + "; ".join(words) if words else ""
