from __future__ import annotations

import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
from celery.concurrency import get_implementation

from celery_cascade.errors import ConfigError
from celery_cascade.persistence.rows import Orphan, StepKey
from celery_cascade.tasks import identity
from celery_cascade.tasks.pools import check_pool, liveness, pool_name
from celery_cascade.tasks.runtime import OpenTokens


class Strange:
    pass


@pytest.mark.parametrize("name", ["prefork", "threads", "solo"])
def test_a_pool_is_known_by_its_name_and_by_its_class(name):
    assert pool_name(name) == name
    assert pool_name(get_implementation(name)) == name
    check_pool(name)


def test_a_pool_that_is_not_celerys_is_custom():
    assert pool_name("processes") == "prefork"
    assert pool_name(Strange) == "custom"


@pytest.mark.parametrize("name", ["gevent", "eventlet"])
def test_green_pools_are_refused_with_the_reason_and_the_way_out(name):
    assert pool_name(f"celery.concurrency.{name}:TaskPool") == name
    with pytest.raises(ConfigError, match="not yet supported") as found:
        check_pool(name)
    assert "prefork, threads or solo" in str(found.value)


def orphan(runner: str | None, token: str = "t") -> Orphan:
    return Orphan(
        key=StepKey("s", "a"), token=token, attempt=1, crashes=0, task="x", runner=runner, worker="w", halt=None
    )


def test_a_step_in_this_process_lives_as_long_as_its_token():
    tokens = OpenTokens()
    is_live = liveness(SimpleNamespace(runner_id="1.2", tokens=tokens))  # type: ignore[arg-type]
    tokens.open("t")
    assert is_live(orphan("1.2"))
    tokens.close("t")
    assert not is_live(orphan("1.2"))


@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="no /proc here")
def test_a_step_in_a_child_lives_as_long_as_that_child():
    is_live = liveness(SimpleNamespace(runner_id="1.2", tokens=OpenTokens()))  # type: ignore[arg-type]
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        runner = identity.runner_id(child.pid)
        assert is_live(orphan(runner))
        assert not is_live(orphan(f"{child.pid}.1"))  # its id, but of an earlier process
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert not is_live(orphan(runner))  # a zombie, before the pool collects it
    assert not is_live(orphan(runner))
    assert not is_live(orphan(None))
