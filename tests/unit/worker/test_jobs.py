from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from celery_cascade.app import Cascades
from celery_cascade.errors import UsageError
from celery_cascade.tasks.jobs import NAMES

ORDER = "cascade: order\ninputs: {n: integer}\nsteps:\n  - {id: a, task: shop.add, with: ['{{ inputs.n }}']}\n"


@pytest.fixture
def cascades(tmp_path: Path) -> Iterator[Cascades]:
    app = Celery("shop", set_as_current=False, broker="memory://", cascade_home=str(tmp_path))

    @app.task(name="shop.add", shared=False)
    def add(n: int) -> int:
        return n + 1

    (tmp_path / "order.yaml").write_text(ORDER)
    cascades = Cascades(app)
    yield cascades
    cascades.runtime.store.database.dispose()


def call(cascades: Cascades, name: str, *args: Any, **kwargs: Any) -> Any:
    """As a worker does; the result as a result backend gets it."""
    return cascades.app.tasks[name].apply(args, kwargs, throw=True).get()


def test_the_four_are_registered_and_keep_their_results_where_there_is_a_backend(cascades):
    cascades.app.conf.task_ignore_result = True
    assert set(NAMES) <= set(cascades.app.tasks)
    assert not any(cascades.app.tasks[name].ignore_result for name in NAMES)


def test_a_registered_cascade_is_started_by_its_name(cascades, tmp_path):
    cascades.register(tmp_path / "order.yaml")
    session_id = call(cascades, "celery_cascade.start", "order", {"n": 1}, session_id="s1", tags=["nightly"])
    assert session_id == "s1"
    row = cascades.runtime.store.session("s1")
    assert (row["cascade_id"], row["trigger"], row["tags"]) == ("order", "task", '["nightly"]')


def test_one_that_the_settings_name_is_found_when_it_is_asked_for(cascades, tmp_path):
    cascades.app.conf.cascade_definitions = [str(tmp_path / "*.yaml")]
    assert call(cascades, "celery_cascade.start", "order", {"n": 1})


@pytest.mark.parametrize("name", ["oder", "order.yaml", "/etc/passwd", "cascade: order\nsteps: []", {"cascade": "x"}])
def test_nothing_else_is_started_neither_a_path_nor_a_text(cascades, tmp_path, name, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cascades.register(tmp_path / "order.yaml")
    with pytest.raises(UsageError, match="no cascade is registered as") as found:
        call(cascades, "celery_cascade.start", str(name))
    assert "cascades.register" in str(found.value)


def test_an_option_that_is_none_is_named(cascades, tmp_path):
    cascades.register(tmp_path / "order.yaml")
    with pytest.raises(UsageError, match="did you mean 'session_id'"):
        call(cascades, "celery_cascade.start", "order", {"n": 1}, sesion_id="s1")


def test_resume_tells_what_it_resumed_and_what_not(cascades, tmp_path):
    cascades.register(tmp_path / "order.yaml")
    call(cascades, "celery_cascade.start", "order", {"n": 1}, session_id="s1")
    assert set(call(cascades, "celery_cascade.resume")) == {"resumed", "skipped"}
    assert call(cascades, "celery_cascade.resume", "s1") == {"resumed": [], "skipped": {"s1": "active"}}


def test_expire_and_prune_tell_what_they_did(cascades):
    assert call(cascades, "celery_cascade.expire") == {"expired": 0}
    report = call(cascades, "celery_cascade.prune")
    assert (report["deleted"], report["broker_rows"]) == (0, 0)
