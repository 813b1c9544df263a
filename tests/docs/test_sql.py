"""Every block of docs/sql.md, run on each database."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from celery_cascade.errors import SchemaOutOfDate
from celery_cascade.persistence import migrate, schema
from celery_cascade.persistence.database import Database
from celery_cascade.persistence.rows import StepKey, WorkerRow
from sessions.conftest import close, migrated
from sessions.kit import Kit
from support import services

PAGE = (Path(__file__).parents[2] / "docs" / "sql.md").read_text(encoding="utf-8")
ORDER = """\
cascade: order
inputs: {order_id: integer}
steps:
  - {id: charge, task: add, with: {x: "{{ inputs.order_id }}"}}
  - {id: ship, task: broken, retry: {max_attempts: 2, delay: 10ms}}
"""


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, flags=re.DOTALL | re.MULTILINE)


def python(word: str) -> str:
    (found,) = [block for block in blocks("python") if word in block]
    return found


def statements(*, going_back: bool) -> list[str]:
    return [
        statement
        for block in blocks("sql")
        if block.startswith("-- going back") == going_back and not block.startswith("-- recovery")
        for statement in _statements_in(block)
    ]


def of_recovery(family: str) -> list[str]:
    title = {"sqlite": "SQLite", "postgresql": "PostgreSQL", "mysql": "MariaDB and MySQL"}[family]
    (block,) = [block for block in blocks("sql") if block.startswith(f"-- recovery, {title}:")]
    return _statements_in(block)


def _statements_in(block: str) -> list[str]:
    return [statement.strip() for statement in block.split(";") if statement.strip()]


@pytest.fixture(
    scope="module",
    params=[
        "sqlite",
        pytest.param("postgresql", marks=pytest.mark.postgresql),
        pytest.param("mariadb", marks=pytest.mark.mariadb),
    ],
)
def kit(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kit]:
    """A store with a session order-7 that has failed, and its app; the last test goes back to nothing."""
    folder = tmp_path_factory.mktemp("page")
    with ExitStack() as stack:
        if request.param == "sqlite":
            url = f"sqlite:///{folder}/store.db"
        else:
            url = stack.enter_context(getattr(services, f"fresh_{request.param}_url")())
        kit = Kit(migrated(url), folder)
        stack.callback(close, kit)
        kit.cascades.run(kit.file(ORDER), {"order_id": 7}, session_id="order-7")
        yield kit


def test_every_query_runs_and_finds_something(kit: Kit) -> None:
    """R14, R29, R126."""
    queries = statements(going_back=False)
    assert len(queries) == 8
    with kit.store.database.read() as connection:
        for query in queries:
            found = connection.exec_driver_sql(query.replace("%", "%%")).all()
            assert found or "what runs now" in query, query


def test_what_the_page_says_of_recovery_is_what_doctor_says(kit: Kit) -> None:
    """Crash to resume, refused late writers and sessions without an owner, on each database."""
    forsaken, resumed = kit.start("a"), [kit.start("a") for _ in range(4)]
    store, day = kit.store, 86_400.0
    for number, session in enumerate([forsaken, *resumed]):
        key = StepKey(session.id, "a")
        store.add_worker(WorkerRow(id=f"gone{number}", nodename="gone@host", host="elsewhere", pid=1, pool="solo"))
        assert store.claim(key, attempt=1, token=f"t{number}", worker=f"gone{number}", runner="r")
        store.stop_worker(f"gone{number}")
    for session in resumed:
        (orphan,) = [one for one in store.orphans(silent_for=None) if one.key.session_id == session.id]
        assert store.release(orphan, error=None)
        assert store.note_fenced(orphan.key, 1)
    for session in resumed[:3]:  # the fourth waits on
        store.claim(StepKey(session.id, "a"), attempt=2, token="new", worker="alive", runner="r")
    store.add_worker(WorkerRow(id="alive", nodename="alive@host", host="elsewhere", pid=1, pool="solo"))
    crashed, fenced, ownerless = of_recovery(store.database.family)
    with store.database.read() as connection:

        def ask(query: str) -> tuple[Any, ...]:
            return tuple(connection.exec_driver_sql(query.replace("%", "%%")).one())

        attempts, middle, worst = ask(crashed)
        counts = ask(fenced), ask(ownerless)
    seen = store.recoveries(since=day, alive=["alive"], takers=True)
    assert (attempts, seen.waiting) == (len(seen.seconds), 1) == (3, 1)
    assert float(middle) == pytest.approx(seen.median, abs=0.01)
    assert float(worst) == pytest.approx(max(seen.seconds), abs=0.01)
    assert counts == ((4,), (1,)) == ((seen.fenced,), (seen.ownerless,))
    for session in (forsaken, *resumed):
        store.delete_session(session.id)


def test_the_blocks_in_python_run(
    kit: Kit, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """R38, R42, R43, R44, R49."""
    monkeypatch.setenv("CELERY_CASCADE_DATABASE_URL", kit.url)
    given: dict[str, Any] = {"cascades": kit.cascades}
    for word in ("retry_stale(add_one)", "cascades.db_session()", "get_db_session()"):
        exec(compile(python(word), "docs/sql.md", "exec"), dict(given))
    assert kit.cascades.session("order-7").context == {"n": 5, "seen": ["a", "b"]}
    assert capsys.readouterr().out == "failed " + f"{kit.cascades.session('order-7').version - 1} " + (
        "{'n': 4, 'seen': ['a', 'b']}\n"
    )


def test_the_line_for_a_host_s_alembic_runs(kit: Kit) -> None:
    """R160."""
    from alembic.migration import MigrationContext

    class Context:
        def configure(self, **options: Any) -> None:
            self.context = MigrationContext.configure(options.pop("connection"), opts=options)

    context, metadata = Context(), sa.MetaData()
    with kit.store.database.read() as connection:
        exec(python("target_metadata=metadata"), {"context": context, "connection": connection, "metadata": metadata})
        from alembic.autogenerate import compare_metadata

        assert compare_metadata(context.context, metadata) == []


def test_going_back_by_hand_leaves_nothing_and_the_application_runs_on(kit: Kit) -> None:
    """R56: DROP TABLE IF EXISTS; plain tasks run, a start says what is missing, and there is a way forward again."""
    database = Database(kit.url)
    for statement in statements(going_back=True):
        if "FUNCTION" not in statement or database.family == "postgresql":
            with database.autocommit() as connection:
                connection.exec_driver_sql(statement)
    with database.read() as connection:
        inspector = sa.inspect(connection)
        assert [*inspector.get_table_names(), *inspector.get_view_names()] == []
        if database.family == "postgresql":
            functions = "SELECT count(*) FROM pg_proc WHERE pronamespace = 'public'::regnamespace"
            assert connection.exec_driver_sql(functions).scalar() == 0
    again = kit.again()
    assert again.app.tasks["add"].apply(args=(1,)).get() == 2
    with pytest.raises(SchemaOutOfDate) as caught:
        again.start("a")
    assert caught.value.exit_code == 7
    assert "migrate up" in caught.value.hint
    assert migrate.upgrade(database) == list(schema.REVISIONS)
    assert again.run("a").status == "completed"
    close(again)
    database.dispose()


def test_the_page_names_every_table_and_view() -> None:
    for name in schema.OUR_TABLES:
        assert f"`{name}`" in PAGE
        assert f"IF EXISTS {name};" in PAGE
