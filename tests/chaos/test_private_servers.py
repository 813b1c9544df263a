"""Servers of a test's own can be stopped, killed and started again, and leave nothing behind."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import sqlalchemy as sa

from support import private, services
from support.cluster import wait_for

pytestmark = [pytest.mark.integration, pytest.mark.slow]


@pytest.mark.parametrize("name", private.KINDS)
def test_a_private_server_stops_is_killed_and_comes_back(name: str) -> None:
    with private.require(name) as server:
        assert server.answers()
        assert str(server.port) not in services.SERVICES[name].url
        server.stop()
        assert not server.runs
        server.start()
        server.crash()
        assert not server.runs
        server.start()
        assert server.starts == 3
        pid, folder = server.process.pid, server.folder
    assert not psutil.pid_exists(pid)
    assert not folder.exists()


@pytest.mark.parametrize("name", ["postgresql", "mariadb"])
def test_a_killed_database_has_what_was_committed(name: str) -> None:
    with private.require(name) as server:
        engine = sa.create_engine(server.url, poolclass=sa.NullPool)
        with engine.begin() as connection:
            connection.exec_driver_sql("CREATE TABLE kept (n INTEGER)")
            connection.exec_driver_sql("INSERT INTO kept VALUES (7)")
        server.crash()
        server.start()
        with engine.begin() as connection:
            assert connection.exec_driver_sql("SELECT n FROM kept").scalar() == 7


def test_a_killed_test_leaves_no_server_behind() -> None:
    private.require("redis")
    code = (
        "from support import private\n"
        "with private.require('redis') as server:\n"
        "    print(server.process.pid, server.folder, flush=True)\n"
        "    input()\n"
    )
    tests = Path(__file__).parents[1]
    test = subprocess.Popen(
        [sys.executable, "-c", code], cwd=tests, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with test:
        pid, folder = test.stdout.readline().split()
        assert psutil.pid_exists(int(pid))
        test.kill()
    wait_for(lambda: not psutil.pid_exists(int(pid)), "the server to end", 10)
    shutil.rmtree(folder)  # an empty one; nobody was left to do it


@pytest.mark.parametrize(("required", "ending"), [("", pytest.skip.Exception), ("1", pytest.fail.Exception)])
def test_a_server_that_is_not_installed_skips_at_a_desk_and_fails_where_it_is_required(
    monkeypatch: pytest.MonkeyPatch, required: str, ending: type[BaseException]
) -> None:
    monkeypatch.setenv("CASCADE_REQUIRE_SERVICES", required)
    monkeypatch.setattr("support.private.server.shutil.which", lambda *_, **__: None)
    with pytest.raises(ending, match="no Redis: redis-server is not installed; apt-get install redis-server"):
        private.require("redis")
