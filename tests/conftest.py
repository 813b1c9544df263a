"""What every test may ask for: a server, a database of its own, and a word at the end about what was skipped.

pytest-celery's plugin replaces Celery's in-process `celery_worker` fixture by one that starts containers.
tests/integration answers that with worker processes of this machine; other tests do not ask for a worker.
"""

from __future__ import annotations

import gc
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import leftovers, services, stacks


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--stack",
        action="append",
        default=[],
        metavar="BROKER-DATABASE",
        help="run the integration tests on this stack instead of the three; may be given several times",
    )


def pytest_itemcollected(item: pytest.Item) -> None:
    stacks.note(item)


def pytest_collection_finish() -> None:
    """What is there by now stays, and need not be looked at by each collection, here and in forked children."""
    gc.collect()
    gc.freeze()


def pytest_sessionfinish() -> None:
    services.close()


# A run in the background of a shell ignores Ctrl+C, one under nohup SIGHUP, and every process that a test starts would
# inherit that.
for _number in (signal.SIGINT, signal.SIGHUP):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, signal.default_int_handler)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """A test that is marked `redis` runs only where a Redis answers; likewise for the others."""
    for name in services.SERVICES:
        if item.get_closest_marker(name):
            services.require(name)


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown() -> None:
    leftovers.end_local_workers()


@pytest.fixture
def postgresql_url() -> Iterator[str]:
    with services.fresh_postgresql_url() as url:
        yield url


@pytest.fixture
def mariadb_url() -> Iterator[str]:
    with services.fresh_mariadb_url() as url:
        yield url


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'cascade.sqlite3'}"


@pytest.fixture(
    params=[
        pytest.param("sqlite"),
        pytest.param("postgresql", marks=pytest.mark.postgresql),
        pytest.param("mariadb", marks=pytest.mark.mariadb),
    ]
)
def database_url(request: pytest.FixtureRequest) -> str:
    """An empty database: the test runs once on each dialect."""
    return request.getfixturevalue(f"{request.param}_url")


@pytest.fixture
def redis_url() -> Iterator[str]:
    with services.redis_url() as url:
        yield url


@pytest.fixture
def rabbitmq_url() -> Iterator[str]:
    with services.rabbitmq_vhost() as url:
        yield url


@pytest.hookimpl(wrapper=True, tryfirst=True)  # the outermost wrapper has the last word
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> Iterator[None]:
    result = yield
    reasons = [str(report.longrepr) for report in terminalreporter.stats.get("skipped", [])]
    lines = []
    for service in services.SERVICES.values():
        count = sum(service.missing in reason for reason in reasons)
        if count:
            tests = "1 test was" if count == 1 else f"{count} tests were"
            lines.append(f"{tests} skipped for want of {service.title}. To run: {service.cure}")
    if lines:
        terminalreporter.section("servers that did not answer")
        for line in lines:
            terminalreporter.write_line(line, yellow=True)
    if line := stacks.summary(terminalreporter.stats):
        terminalreporter.write_line(line)
    return result
