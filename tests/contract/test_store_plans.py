"""EXPLAIN: every scan has its index, on each database, with a few thousand rows (STYLE 10)."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from itertools import islice
from typing import Any

import pytest
from sqlalchemy import Table, insert, literal, select, text

from celery_cascade.persistence import tables, ways
from celery_cascade.persistence.database import Database
from celery_cascade.persistence.fork import NewFork
from celery_cascade.persistence.models import Base
from celery_cascade.persistence.prune_rules import Rules
from celery_cascade.persistence.rows import NewMessage, StepKey
from celery_cascade.persistence.views import SessionFilter
from celery_cascade.states import Halt
from contract.kit import BODY, NOON, Kit, new_session, queued, worker_row
from contract.traffic import watched

FIRST = 500  #: sessions that are written one by one
LIVE = 20  #: of them active
COPIES = "abcdefghi"  #: of those that do not run, made by the database itself
DAYS = timedelta(days=1)


@pytest.fixture(scope="module")
def grown(contract_database: Database) -> Iterator[Kit]:
    """Thousands of sessions, some of them suspended, a few that live, the others ended, as after some weeks."""
    kit = Kit(contract_database)
    grow(contract_database)
    kit.store.add_worker(worker_row("alive"))
    kit.store.add_worker(worker_row("dead"))
    kit.store.stop_worker("dead")
    yield kit
    Kit(contract_database)  # empties it for the tests of other modules


def grow(database: Database) -> None:
    numbers = range(FIRST)

    def live(number: int) -> bool:
        return number >= FIRST - LIVE

    def status(number: int) -> str:
        if live(number):
            return "active"
        return {0: "failed", 3: "suspended"}.get(number % 20, "completed")

    digests = [f"{number:064}" for number in range(40)]
    others = [f"{number:064}" for number in range(40, 3000)]  # whose sessions are gone since
    began = [NOON - timedelta(minutes=5 * (FIRST - number)) for number in numbers]
    sessions = [
        {
            "session_id": f"s{number:05}",
            "cascade_id": f"cascade{number % 40}",
            "root_session_id": f"s{number:05}",
            "resource_id": f"r{number % 50}",
            "thread_id": f"t{number % 50}",
            "execution_key": f"key{number % 40}",
            "definition_digest": digests[number % len(digests)],
            "parent_session_id": f"s{number - 1:05}" if number % 4 == 3 else None,
            "input_data": "{}",
            "created_at": began[number],
        }
        for number in numbers
    ]
    heads = [
        {
            "id": f"h{number:05}",
            "session_id": f"s{number:05}",
            "mode": f"mode{number % 50}",
            "status": status(number),
            "open_steps": 3 if live(number) else 0,
            "total_steps": 4,
            "created_at": began[number],
            "started_at": began[number],
            "updated_at": began[number],
            "finished_at": began[number] + timedelta(seconds=30) if status(number) in ("failed", "completed") else None,
            "version": 4,
        }
        for number in numbers
    ]
    steps = [
        {
            "session_id": f"s{number:05}",
            "step": f"step{place}",
            "item": -1,
            "status": status,
            "task": "shop.task",
            "worker": "alive" if number % 2 else "dead",
            "token": "t" if status == "running" else None,
            "wake_at": NOON + timedelta(seconds=60) if status == "queued" else None,
            "deadline": NOON + timedelta(seconds=60) if status == "running" else None,
            "finished_at": began[number] if status == "succeeded" else None,
            "queued_at": began[number],
        }
        for number in numbers
        for place, status in enumerate(
            ("succeeded", "running", "queued", "pending") if live(number) else ("succeeded",) * 4
        )
    ]

    attempts = [
        {"session_id": f"s{number:05}", "step": "step0", "item": -1, "attempt": 1, "kind": "failure", "version": 2}
        for number in numbers
    ]
    actions = [
        {"id": f"a{number:05}", "session_id": f"s{number:05}", "action": "resume", "version": 2} for number in numbers
    ]
    tagged = [
        {"session_id": f"s{number:05}", "tag": tag, "created_at": began[number]}
        for number in numbers
        for tag in ("all", f"tag{number % 50}")
    ]
    written = (
        (tables.definitions, [definition(digest) for digest in digests + others]),
        (tables.sessions, sessions),
        (tables.heads, heads),
        (tables.steps, steps),
        (tables.attempts, attempts),
        (tables.actions, actions),
        (tables.tags, tagged),
    )

    def work(conn: Any) -> None:
        for table, rows in written:
            conn.execute(insert(table), rows)
        for letter in COPIES:
            for table, _ in written[1:]:
                conn.execute(copied(table, letter))

    database.transaction(work)
    for table in Base.metadata.sorted_tables:
        analyze = {"sqlite": "ANALYZE", "postgresql": "VACUUM ANALYZE", "mysql": "ANALYZE TABLE"}[database.family]
        with database.autocommit() as conn:
            conn.execute(text(f"{analyze} {table.name}")).close()


def definition(digest: str) -> dict[str, Any]:
    return {"digest": digest, "cascade_id": digest, "format": "yaml", "body": BODY}


def copied(table: Table, letter: str) -> Any:
    """The rows of sessions that do not run, once more under ids that begin with this letter."""
    renamed = {"id", "session_id", "root_session_id"}
    names = [column.name for column in table.columns if column.name != "idempotency_key"]
    values = [(literal(letter) + table.c[name]) if name in renamed else table.c[name] for name in names]
    still = select(tables.heads.c.session_id).where(
        tables.heads.c.status != "active", tables.heads.c.session_id.startswith("s")
    )
    return insert(table).from_select(
        names, select(*values).where(table.c.session_id.in_(still)), include_defaults=False
    )


# -- what the planner says: the tables that are read from end to end, and the indexes that are used
def explained(kit: Kit, call: Callable[[], Any]) -> tuple[set[str], set[str]]:
    with watched() as traffic:
        call()
    reader = {"sqlite": _sqlite_plan, "postgresql": _postgresql_plan, "mysql": _mysql_plan}[kit.database.family]
    scanned: set[str] = set()
    used: set[str] = set()
    with kit.database.read() as conn:
        if kit.database.family == "postgresql":
            conn.execute(text("SET random_page_cost = 1.1"))  # as everybody sets it who has no spinning disk
        for sql, parameters in traffic.statements:
            if isinstance(parameters, list):
                parameters = parameters[0]
            reader(conn, sql, parameters, scanned, used)
    return scanned, used


def _sqlite_plan(conn: Any, sql: str, parameters: Any, scanned: set[str], used: set[str]) -> None:
    for row in conn.exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}", parameters):
        words = row.detail.split()
        if words[0] == "SCAN" and "INDEX" not in words and words[1] in Base.metadata.tables:
            scanned.add(words[1])
        if "INDEX" in words:
            used.add(words[words.index("INDEX") + 1])


def _postgresql_plan(conn: Any, sql: str, parameters: Any, scanned: set[str], used: set[str]) -> None:
    (found,) = conn.exec_driver_sql(f"EXPLAIN (FORMAT JSON) {sql}", parameters).scalars()
    nodes = [part["Plan"] for part in (json.loads(found) if isinstance(found, str) else found)]
    while nodes:
        node = nodes.pop()
        nodes += node.get("Plans", [])
        if node["Node Type"] == "Seq Scan":
            scanned.add(node["Relation Name"])
        if "Index Name" in node:
            used.add(node["Index Name"])


def _mysql_plan(conn: Any, sql: str, parameters: Any, scanned: set[str], used: set[str]) -> None:
    if sql.startswith("INSERT") and "SELECT" not in sql:
        return
    for row in conn.exec_driver_sql(f"EXPLAIN {sql}", parameters).mappings():
        if row["key"]:
            used.update(row["key"].replace("|", ",").split(","))
        stored = row["table"] and not row["table"].startswith("<")  # not put together from what has its own row here
        if stored and row["type"] in ("ALL", "index") and int(row["rows"] or 0) > 100:
            scanned.add(row["table"])


PRIMARY = {
    "sqlite": "sqlite_autoindex_session_steps_1",
    "postgresql": "pk_session_steps",
    "mysql": "PRIMARY",
}
STATUS_INDEXES = {"idx_session_states_status", "ix_session_states_status_created_at"}
LIVE_SESSION = f"s{FIRST - 1:05}"
VERSIONED = "7".zfill(64)


def test_a_claim_finds_its_step_by_the_primary_key(grown: Kit) -> None:
    key = StepKey(LIVE_SESSION, "step2")
    scanned, used = explained(
        grown, lambda: grown.store.claim(key, attempt=9, token="t", worker="w", runner="r", timeout=None)
    )
    assert scanned == set()
    assert used == {PRIMARY[grown.database.family]}


def test_a_checkpoint_a_failure_and_a_release_scan_nothing(grown: Kit) -> None:
    session = grown.start(total=3)
    for call in (
        lambda: grown.run(session, "a", "b"),
        lambda: grown.fail(grown.claim(session, "b"), 5.0),
        lambda: (grown.claim(session, "b"), grown.store.release(grown.orphan(session, "b"), error=None, silent_for=15)),
        lambda: grown.store.halt(session, Halt.SUSPENDED, "operator"),
        lambda: grown.store.settle(session),
        lambda: grown.store.revive(session),
    ):
        scanned, _ = explained(grown, call)
        assert not scanned & {"session_steps", "session_states", "cascade_sessions", "step_attempts"}
    grown.store.delete_session(session)


SCANS: dict[str, tuple[Callable[[Kit], Any], set[str]]] = {
    "orphans of who said goodbye": (lambda kit: kit.store.orphans(silent_for=None), {"ix_session_steps_owner"}),
    "orphans by age": (lambda kit: kit.store.orphans(silent_for=15), {"ix_session_steps_owner"}),
    # SQLite may take the other partial index, which holds living steps only, too.
    "due steps": (
        lambda kit: kit.store.take_due(worker="w", first=60),
        {"ix_session_steps_wake", "ix_session_steps_owner"},
    ),
    "overdue steps": (lambda kit: kit.store.overdue(), {"ix_session_steps_deadline", "ix_session_steps_owner"}),
    "steps of one worker": (lambda kit: kit.store.running_on("alive"), {"ix_session_steps_owner"}),
    "what a dead worker queued": (lambda kit: kit.store.wake_queued_by(["nobody"]), {"ix_session_steps_owner"}),
    "what ended runs left": (lambda kit: kit.store.wake_forsaken(), {"ix_session_steps_owner"}),
    "oldest queued": (lambda kit: kit.store.wake_oldest(5), {"ix_session_steps_wake", "ix_session_steps_owner"}),
    "what was dropped": (lambda kit: kit.store.wake_known(["shop.task"]), {"ix_session_steps_owner"}),
    "tasks that are waited for": (
        lambda kit: kit.store.waiting_tasks(),
        {"ix_session_steps_owner", "ix_session_steps_wake"},
    ),
    "how recovery works": (
        lambda kit: kit.store.recoveries(since=60.0, alive=["alive"], takers=True),
        STATUS_INDEXES,
    ),
    "unsettled": (lambda kit: kit.store.unsettled(), {"ix_session_states_halt"}),
    "past their expiry": (
        lambda kit: kit.store.past_expiry(),
        {"ix_session_states_expires_at"} | STATUS_INDEXES,
    ),
    # Not by the state: of suspended sessions there may be very many, and this is asked every few seconds.
    "turns that have come": (lambda kit: kit.store.ready_turns(), {"ix_session_states_started_at"}),
    "queued steps of a session": (lambda kit: kit.store.queued_steps(LIVE_SESSION), set()),
    "forgotten workers": (lambda kit: kit.store.forget_workers(86400.0), set()),
}


@pytest.mark.parametrize("name", SCANS)
def test_a_sweep_reads_what_is_alive_and_not_all_that_ever_was(grown: Kit, name: str) -> None:
    call, indexes = SCANS[name]
    scanned, used = explained(grown, lambda: call(grown))
    assert not scanned & {"session_steps", "session_states", "cascade_sessions"}
    assert not indexes or indexes & used


#: What people ask with a SQL client or the ORM (R57), and the indexes that may answer.
QUESTIONS: dict[str, tuple[Any, set[str]]] = {
    "session and status": (
        select(tables.heads).where(tables.heads.c.session_id == "s00007", tables.heads.c.status == "completed"),
        {"idx_session_states_session_status", "idx_session_states_session_id"},
    ),
    "session": (
        select(tables.heads).where(tables.heads.c.session_id == "s00007"),
        {"idx_session_states_session_id", "idx_session_states_session_status"},
    ),
    "status": (select(tables.heads).where(tables.heads.c.status == "active"), STATUS_INDEXES),
    "mode": (select(tables.heads).where(tables.heads.c.mode == "mode7"), {"idx_session_states_mode"}),
    "steps of a session": (
        select(tables.steps).where(tables.steps.c.session_id == "s00007"),
        {"sqlite_autoindex_session_steps_1", "pk_session_steps", "PRIMARY"},
    ),
    "children of a session": (
        select(tables.sessions).where(tables.sessions.c.parent_session_id == "s00007"),
        {"ix_cascade_sessions_parent_session_id"},
    ),
    "sessions of a definition": (
        select(tables.sessions).where(tables.sessions.c.definition_digest == "7".zfill(64)),
        {"ix_cascade_sessions_definition_digest"},
    ),
}


@pytest.mark.parametrize("name", QUESTIONS)
def test_a_question_of_people_is_answered_by_an_index(grown: Kit, name: str) -> None:
    """R57: by session and status, by mode, by time of change."""
    question, indexes = QUESTIONS[name]
    scanned, used = explained(grown, lambda: ask(grown, question))
    assert scanned == set()
    assert used & indexes


def test_the_versions_of_a_cascade_are_found_by_an_index(grown: Kit) -> None:
    """R21: as many definitions as the cascade had are looked at, not all that the store holds."""
    scanned, used = explained(grown, lambda: grown.store.versions(VERSIONED))
    assert not scanned & {"cascade_definitions", "cascade_sessions"}
    assert "ix_cascade_definitions_cascade_id" in used
    scanned, _ = explained(grown, lambda: grown.store.lineage(LIVE_SESSION))
    assert scanned == set()


def ask(kit: Kit, question: Any) -> None:
    with kit.database.read() as conn:
        conn.execute(question).close()


def test_what_has_changed_lately_is_found_by_an_index(grown: Kit) -> None:
    """R57. A BRIN index pays only where a table has many pages, so PostgreSQL gets more heads first."""
    lately = select(tables.heads).where(tables.heads.c.updated_at > NOON - timedelta(minutes=10))
    if grown.database.family == "postgresql":
        with grown.database.autocommit() as conn:
            conn.execute(text("SET session_replication_role = replica")).close()  # heads without sessions
            conn.execute(MANY_HEADS).close()
            conn.execute(text("RESET session_replication_role")).close()
            conn.execute(text("VACUUM ANALYZE session_states")).close()
    try:
        scanned, used = explained(grown, lambda: ask(grown, lately))
    finally:
        if grown.database.family == "postgresql":
            with grown.database.autocommit() as conn:
                conn.execute(text("DELETE FROM session_states WHERE id LIKE 'many%'")).close()
                conn.execute(text("VACUUM FULL session_states")).close()
                conn.execute(text("VACUUM ANALYZE session_states")).close()
    assert scanned == set()
    assert used == {"idx_session_states_updated"}


MANY_HEADS = text("""
    INSERT INTO session_states (id, session_id, mode, status, finished_at, updated_at)
    SELECT 'many' || n, 'many' || n, 'cascade', 'completed', now(), timestamptz '2020-01-01' + n * interval '1 minute'
    FROM generate_series(1, 60000) n
""")


LOOKS: dict[str, Callable[[Kit], Any]] = {
    "a session": lambda kit: kit.store.session(LIVE_SESSION),
    "its head": lambda kit: kit.store.head(LIVE_SESSION),
    "its context": lambda kit: kit.store.context(LIVE_SESSION),
    "a write of its context": lambda kit: kit.store.write_context(
        LIVE_SESSION,
        version=kit.store.head(LIVE_SESSION)["version"],
        value={"n": 1},
        delta='[["set",["n"],1]]',
    ),
    "the history of its context": lambda kit: kit.store.context_changes(LIVE_SESSION),
    "a message to it": lambda kit: kit.store.say(LIVE_SESSION, NewMessage(role="user", content='"hi"')),
    "its conversation": lambda kit: kit.store.conversation(LIVE_SESSION),
    "its steps": lambda kit: kit.store.steps(LIVE_SESSION),
    "its attempts": lambda kit: kit.store.attempts(LIVE_SESSION),
    "its actions": lambda kit: kit.store.actions(LIVE_SESSION),
    "its past": lambda kit: kit.store.past(LIVE_SESSION),
    "its outputs": lambda kit: kit.store.outputs(LIVE_SESSION, ["step0"]),
    "what is new of it": lambda kit: kit.store.step_changes(LIVE_SESSION, 1),
    "who waits for it": lambda kit: kit.store.turn_after(LIVE_SESSION),
    "who waits for what was deleted": lambda kit: kit.store.turns_after_gone(["nowhere"]),
    "its family": lambda kit: kit.store.family(LIVE_SESSION),
    "what it was forked from": lambda kit: kit.store.lineage(LIVE_SESSION),
    "how it stands, for a fork": lambda kit: kit.store.origin(LIVE_SESSION),
    "its turns, for a fork": lambda kit: kit.store.turns(LIVE_SESSION),
    "whose sessions a worker holds": lambda kit: kit.store.held_by({"alive"}),
}


@pytest.mark.parametrize("name", LOOKS)
def test_a_look_at_one_session_reads_its_own_rows(grown: Kit, name: str) -> None:
    scanned, _ = explained(grown, lambda: LOOKS[name](grown))
    assert not scanned & {"session_steps", "session_states", "cascade_sessions", "step_attempts", "session_actions"}


def test_a_fork_reads_its_origins_rows_and_no_others(grown: Kit) -> None:
    new = new_session(total=4, closed_steps=1, trigger="fork", input_data="{}")
    taken = NewFork(
        origin=grown.store.origin(LIVE_SESSION), step="step1", version=1, kept=["step0"], turns=[LIVE_SESSION]
    )
    scanned, used = explained(grown, lambda: grown.store.fork(new, taken, queued("step1")))
    grown.store.delete_session(new.session_id)
    assert not scanned & {"session_steps", "session_states", "cascade_sessions", "cascade_definitions"}
    assert PRIMARY[grown.database.family] in used


#: What a list asks for, and the indexes by one of which it is walked on SQLite and MariaDB.
SESSIONS = "ix_cascade_sessions_"
PLACE = (NOON - DAYS, "s00000")
PAGES: dict[str, tuple[SessionFilter, str]] = {
    "newest": (SessionFilter(), f"{SESSIONS}created_at"),
    "cursor": (SessionFilter(before=PLACE), f"{SESSIONS}created_at"),
    "cascade": (SessionFilter(cascade="cascade7"), f"{SESSIONS}cascade_id_created_at"),
    "cursor of a cascade": (SessionFilter(cascade="cascade7", before=PLACE), f"{SESSIONS}cascade_id_created_at"),
    "resource": (SessionFilter(resource_id="r7"), f"{SESSIONS}resource_id_created_at"),
    "thread": (SessionFilter(thread_id="t7"), f"{SESSIONS}thread_id_created_at"),
    "tag": (SessionFilter(tags=["tag7"]), "ix_session_tags_tag_created_at"),
    "two tags": (SessionFilter(tags=["tag7", "all"]), "ix_session_tags_tag_created_at"),
    "tag of a state": (SessionFilter(tags=["tag7"], status=["failed"]), "ix_session_tags_tag_created_at"),
    "active": (SessionFilter(status=["active"]), "ix_session_states_status_created_at"),
    "completed": (SessionFilter(status=["completed"]), "ix_session_states_status_created_at"),
    "cursor of a state": (SessionFilter(status=["failed"], before=PLACE), "ix_session_states_status_created_at"),
    "two states": (SessionFilter(status=["completed", "failed"]), "ix_session_states_status_created_at"),
    "reason": (SessionFilter(reason=["operator"]), "ix_session_states_status_created_at"),
    "failed of a cascade": (
        SessionFilter(status=["failed"], cascade="cascade7"),  # which has a hundred sessions: it is the shorter way
        f"{SESSIONS}cascade_id_created_at",
    ),
    "failed of some files": (
        SessionFilter(status=["failed"], execution_key="key7", before=PLACE),
        f"{SESSIONS}execution_key_created_at",
    ),
    "completed of a cascade": (
        SessionFilter(status=["completed"], cascade="cascade7"),
        f"{SESSIONS}cascade_id_created_at",
    ),
    "status of a resource": (
        SessionFilter(resource_id="r7", status=["active", "suspended"]),
        f"{SESSIONS}resource_id_created_at",
    ),
    "step": (SessionFilter(step="step2"), "ix_session_states_status_created_at"),
    "step of a cascade": (SessionFilter(step="step2", cascade="cascade7"), f"{SESSIONS}cascade_id_created_at"),
    "since": (SessionFilter(since=NOON - timedelta(minutes=60)), f"{SESSIONS}created_at"),
    "until": (SessionFilter(until=NOON - DAYS), f"{SESSIONS}created_at"),
    "until of a state": (
        SessionFilter(until=NOON - DAYS, status=["completed"]),
        "ix_session_states_status_created_at",
    ),
    "mode": (SessionFilter(mode="mode7"), "idx_session_states_mode"),
    "mode of a cascade": (SessionFilter(mode="mode7", cascade="cascade7"), "idx_session_states_mode"),
    "execution key": (SessionFilter(execution_key="key7"), f"{SESSIONS}execution_key_created_at"),
    "parent": (SessionFilter(parent="s00007"), f"{SESSIONS}parent_session_id"),
    "root": (SessionFilter(root="s00007"), f"{SESSIONS}root_session_id"),
    "failed of a tree": (SessionFilter(root="s00007", status=["failed"]), f"{SESSIONS}root_session_id"),
    "origin": (SessionFilter(forked_from="s00007"), f"{SESSIONS}forked_from"),
    "prefix": (SessionFilter(prefix="s0000"), "PRIMARY"),
    "inputs since": (SessionFilter(inputs=[["7"]], since=NOON - DAYS), f"{SESSIONS}created_at"),
    "inputs of a cascade": (
        SessionFilter(inputs=[["7"]], cascade="cascade7"),
        f"{SESSIONS}cascade_id_created_at",
    ),
    "error": (SessionFilter(error="stock"), "ix_session_states_status_created_at"),
}


@pytest.mark.parametrize("name", PAGES)
def test_a_page_of_the_list_reads_a_page(grown: Kit, name: str) -> None:
    """STYLE 10: page and count, each filter alone and the common pairs."""
    wanted, index = PAGES[name]
    scanned, used = explained(grown, lambda: grown.store.sessions(wanted))
    if name == "newest" and grown.database.family == "mysql":
        scanned.discard("cascade_sessions")  # along the index, to the page's end, which EXPLAIN takes no note of
    assert scanned == set()
    if index == "PRIMARY" and grown.database.family == "sqlite":
        index = "sqlite_autoindex_cascade_sessions_1"
    if grown.database.family != "postgresql":  # which may know a quicker way for so few
        assert index in used
    elif name == "prefix":  # a collation other than C, as here, has no range for LIKE in the primary key
        assert "ix_cascade_sessions_session_id" in used


@pytest.mark.parametrize("name", sorted(PAGES.keys() - {"newest", "cursor", "inputs since", "error", "prefix"}))
def test_counting_reads_what_it_counts(grown: Kit, name: str) -> None:
    """All of them without a filter, and with a text to look for in each."""
    scanned, _ = explained(grown, lambda: grown.store.count(PAGES[name][0], 10))
    assert grown.database.family == "postgresql" or scanned == set()


@pytest.mark.parametrize("status", [["active"], ["completed"], ["failed", "completed"]], ids=",".join)
def test_a_page_of_a_state_is_in_order_as_it_is_read(grown: Kit, status: list[str]) -> None:
    """No database may sort all sessions of a state, of which there may be a million, for one page."""
    wanted = SessionFilter(status=status, limit=5)
    if grown.database.family != "mysql":
        return  # the two others sort the last term only, within one moment
    with watched() as traffic:
        grown.store.sessions(wanted)
    with grown.database.read() as conn:
        for sql, parameters in traffic.statements:
            rows = conn.exec_driver_sql(f"EXPLAIN {sql}", parameters).mappings().all()
            inner = [row for row in rows if row["key"] == "ix_session_states_status_created_at"]
            assert len(inner) == len(status)
            assert not any("filesort" in (row["Extra"] or "") for row in inner)


@pytest.mark.parametrize("more", [{"cascade": "cascade7"}, {"execution_key": "key7"}], ids=str)
def test_a_state_of_a_big_cascade_is_walked_in_order(
    grown: Kit, monkeypatch: pytest.MonkeyPatch, more: dict[str, Any]
) -> None:
    """No database may read and sort all that have failed, and all of the cascade beside them, for one page."""
    monkeypatch.setattr(ways, "_RARE", 5)
    scanned, used = explained(grown, lambda: grown.store.sessions(SessionFilter(status=["failed"], limit=5, **more)))
    assert scanned == set()
    assert "ix_session_states_status_created_at" in used
    if grown.database.family == "postgresql":
        assert "idx_session_states_status" not in used, "which has no order"


@pytest.mark.parametrize("key", ["key7", "of files that were never run"])
def test_the_last_session_of_some_files_is_found_by_index(grown: Kit, key: str) -> None:
    """R59: the newest first, and no other file's sessions are read through."""
    wanted = SessionFilter(execution_key=key, limit=1)
    scanned, used = explained(grown, lambda: grown.store.sessions(wanted))
    assert scanned == set()
    assert "ix_cascade_sessions_execution_key_created_at" in used
    assert len(grown.store.sessions(wanted)) == (key == "key7")


RULES = Rules(ages={"completed": 1 * DAYS, "failed": 30 * DAYS})


def walk(kit: Kit, rules: Rules, *, pages: int = 3) -> list[Any]:
    """As many pages of ten as a prune would read one after the other."""
    return list(islice(kit.store.pruning(rules, batch=10).batches(), pages))


@pytest.mark.parametrize(
    "rules",
    [
        RULES,
        replace(RULES, keep_last=0),
        replace(RULES, cascade="cascade7", keep_last=1),
        replace(RULES, since="updated_at"),
    ],
    ids=["by age", "keep none", "one cascade", "by the last change"],
)
def test_prune_walks_by_index_and_reads_no_steps(grown: Kit, rules: Rules) -> None:
    """R57, STYLE 10: from the oldest on, page after page, without sorting or ranking all that ever ended."""
    scanned, used = explained(grown, lambda: walk(grown, rules))
    assert scanned <= {"session_mappings"}, "which is empty here"
    assert "ix_session_states_finished_at" in used


def test_prune_finds_the_newest_of_a_cascade_by_index(grown: Kit) -> None:
    """D9: in the order of lists, which has its index."""
    pruning = grown.store.pruning(RULES, batch=10)
    _, used = explained(grown, lambda: next(pruning.batches()))
    assert "ix_cascade_sessions_cascade_id_created_at" in used


def test_what_suspended_sessions_a_cleanup_may_take_is_found_by_index(grown: Kit) -> None:
    rules = Rules(ages={"suspended": DAYS}, since="updated_at")
    scanned, used = explained(grown, lambda: walk(grown, rules))
    assert scanned <= {"session_mappings"}, "which is empty here"
    assert used & {"ix_session_states_status_created_at", "idx_session_states_status"}


def test_prune_deletes_by_index(grown: Kit) -> None:
    pruning = grown.store.pruning(RULES, batch=10)
    trees = next(pruning.batches())
    assert len(trees) == 10
    scanned, _ = explained(grown, lambda: pruning.delete(trees))
    assert not scanned & {"session_steps", "session_states", "cascade_sessions"}


def test_broken_times_are_looked_for_by_index(grown: Kit) -> None:
    scanned, _ = explained(grown, lambda: grown.store.mend_times())
    assert not scanned & {"session_steps", "cascade_sessions"}
