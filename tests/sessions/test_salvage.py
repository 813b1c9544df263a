"""A damaged SQLite file: never written to, moved aside whole, and what can be read of it goes on (D4, R121)."""

from __future__ import annotations

import os
import random
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from celery_cascade.errors import NotResumable, SessionConflict, StoreDamaged, StoreUnavailable
from celery_cascade.persistence import migrate, sqlite_file
from celery_cascade.persistence.database import Database
from celery_cascade.persistence.sqlite_pages import Pages
from celery_cascade.sessions import mending
from celery_cascade.sessions.mending import Mended, mend
from celery_cascade.tasks import recovery
from sessions.kit import Kit

PAGE = 4096
SESSIONS = 120
WIDE = [{"id": f"s{number}", "task": "add", "needs": []} for number in range(5)]
SAID = ("session_context", "session_messages")
TABLES = ("cascade_definitions", "cascade_sessions", "session_states", "session_steps", *SAID)

NOISE = random.Random(7).randbytes(PAGE)


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """120 active sessions of five steps, two that have ended, one whose output needs pages of its own."""
    folder = tmp_path_factory.mktemp("big")
    url = f"sqlite:///{folder / 'store.sqlite'}"

    database = Database(url, null_pool=True)
    migrate.upgrade(database)
    kit = Kit(url, folder)
    for number in range(SESSIONS):
        kit.start(*WIDE, session_id=f"open-{number:03}", context={"n": number}).say("user", "hi")
    kit.run("a", "b", session_id="ended-1")
    kit.run({"id": "a", "task": "echo", "with": ["x" * 20_000]}, session_id="ended-2")
    kit.store.database.dispose()
    kit.app.close()
    with closing(sqlite3.connect(folder / "store.sqlite")) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return folder / "store.sqlite"


class Damaged:
    """A copy of the big store with some pages overwritten."""

    def __init__(self, big: Path, folder: Path) -> None:
        self.file = folder / "damaged.sqlite"
        self.file.write_bytes(big.read_bytes())
        self.wal: bytes | None = None

    def overwrite(self, *pages: int) -> Damaged:
        content = bytearray(self.file.read_bytes())
        for page in pages:
            content[(page - 1) * PAGE : page * PAGE] = NOISE
        self.file.write_bytes(content)
        return self

    def root_of(self, table: str) -> int:
        with closing(sqlite3.connect(self.file)) as connection:
            found = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (table,)).fetchone()
            return int(found[0])

    def kit(self, make_kit: Callable[..., Kit]) -> Kit:
        return make_kit(f"sqlite:///{self.file}")

    def mend(self, kit: Kit) -> Mended:
        return mend(kit.runtime, self.file, lambda table, rows: None)


@pytest.fixture
def damaged(big: Path, tmp_path: Path) -> Damaged:
    return Damaged(big, tmp_path)


def dump(file: Path) -> dict[str, set[Any]]:
    with closing(sqlite3.connect(file)) as connection:
        return {name: set(connection.execute(f"SELECT * FROM {name}")) for name in TABLES}


def leaf_pages(file: Path, table_root: int) -> list[int]:
    """Leaf pages below an inner page, as the file format says."""
    pages = Pages(file)
    body = pages.page(table_root)
    if body[0] != 0x05:
        return [table_root]
    count = int.from_bytes(body[3:5], "big")
    found = [int.from_bytes(body[8:12], "big")]
    for index in range(count):
        at = int.from_bytes(body[12 + 2 * index : 14 + 2 * index], "big")
        found.append(int.from_bytes(body[at : at + 4], "big"))
    return sorted(leaf for page in found for leaf in leaf_pages(file, page))


def lost_on(file: Path, *pages: int) -> int:
    """How many rows the pages hold."""
    body = Pages(file)
    return sum(int.from_bytes(body.page(page)[3:5], "big") for page in pages)


@pytest.mark.parametrize("where", ["page 1", "a leaf", "an inner page"])
def test_a_damaged_file_is_refused_by_all_and_not_changed(
    damaged: Damaged, make_kit: Callable[..., Kit], where: str
) -> None:
    """D4, R121: exit 7 and the cure, for reads, starts and migrations alike."""
    root = damaged.root_of("session_steps")
    page = {"page 1": 1, "a leaf": leaf_pages(damaged.file, root)[3], "an inner page": root}[where]
    before = damaged.overwrite(page).file.read_bytes()
    kit = damaged.kit(make_kit)
    tries: list[Callable[[], Any]] = [
        lambda: kit.start("a"),
        lambda: list(kit.cascades.sessions()),
        lambda: migrate.upgrade(kit.runtime.open_database()),
        lambda: kit.run("a"),
    ]
    for attempt in tries:
        with pytest.raises(StoreDamaged, match="is damaged: ") as told:
            attempt()
        assert told.value.exit_code == 7
        assert told.value.hint.endswith("cascade doctor --fix")
    assert damaged.file.read_bytes() == before


def test_a_leaf_that_is_lost_costs_its_own_rows_only(damaged: Damaged, big: Path, make_kit: Callable[..., Kit]) -> None:
    """R121: a middle page; what is around the damage is all there, the old file as it was."""
    leaves = leaf_pages(damaged.file, damaged.root_of("session_steps"))
    hit = [leaves[4], leaves[9]]  # rows between the two are reached from no end
    lost = lost_on(damaged.file, *hit)
    before = damaged.overwrite(*hit).file.read_bytes()
    kit = damaged.kit(make_kit)
    mended = damaged.mend(kit)
    assert mended.moved_to.read_bytes() == before
    assert mended.moved_to.name.startswith("damaged.sqlite.corrupt-20")
    assert not list(damaged.file.parent.glob("*.salvaged-*"))
    was, now = dump(big), dump(damaged.file)
    assert {name: was[name] - now[name] for name in ("cascade_definitions", "cascade_sessions")} == {
        "cascade_definitions": set(), "cascade_sessions": set(),
    }  # fmt: skip
    assert len(was["session_steps"]) - mended.salvaged.rows["session_steps"] == lost > 0
    assert mended.salvaged.damaged == ["session_steps"]
    assert not mended.salvaged.by_shape
    assert sqlite_file.damage(damaged.file) == []
    assert kit.cascades.session("ended-1").output == 1


def test_sessions_that_lost_a_row_wait_for_an_operator_and_the_others_go_on(
    damaged: Damaged, make_kit: Callable[..., Kit]
) -> None:
    """D11: without its row a step would never run, or run twice; that is for a person to decide (in_doubt)."""
    leaves = leaf_pages(damaged.file, damaged.root_of("session_steps"))
    damaged.overwrite(leaves[2])
    kit = damaged.kit(make_kit)
    mended = damaged.mend(kit)
    assert 0 < len(mended.suspended) < SESSIONS / 2
    for session_id in mended.suspended:
        session = kit.cascades.session(session_id)
        assert (session.status, session.reason) == ("suspended", "in_doubt")
        with pytest.raises(NotResumable, match=f"Failed to restore session {session_id}: step 's.*': its row is lost"):
            session.resume()
        assert session.cancel() == "cancelled"
    kit.runtime.store.wake_forsaken()
    kit.sql("UPDATE session_steps SET wake_at = queued_at WHERE status = 'queued'")

    for _ in range(10):
        recovery.send_due(kit.runtime)
        kit.deliver(most=2000)
    well = [session for session in kit.cascades.sessions(limit=500) if session.id.startswith("open-")]
    assert {session.status for session in well if session.id not in mended.suspended} == {"completed"}


def test_an_inner_page_that_is_lost_costs_nothing(damaged: Damaged, big: Path, make_kit: Callable[..., Kit]) -> None:
    """R121: SQLite itself finds no row any more; the leaf pages are all there."""
    root = damaged.root_of("session_steps")
    assert len(leaf_pages(damaged.file, root)) > 1
    damaged.overwrite(root)
    mended = damaged.mend(damaged.kit(make_kit))
    assert dump(damaged.file) == dump(big)
    assert mended.suspended == {}


def test_without_the_schema_rows_are_known_by_their_columns(
    damaged: Damaged, big: Path, make_kit: Callable[..., Kit]
) -> None:
    """R121: garbage in page 1. Rows may be out of date, so every open session waits for an operator."""
    kit = damaged.overwrite(1).kit(make_kit)
    mended = damaged.mend(kit)
    assert mended.salvaged.by_shape
    was, now = dump(big), dump(damaged.file)
    for name in ("cascade_definitions", "cascade_sessions", *SAID):
        assert was[name] == now[name]
    assert mended.salvaged.rows["session_steps"] == len(was["session_steps"])
    assert len(mended.suspended) == SESSIONS
    ended = kit.cascades.session("ended-2")
    assert ended.output == "x" * 20_000
    some = kit.cascades.session("open-007")
    some.resume()
    assert some.status == "active"
    assert (some.context, some.conversation_history) == ({"n": 7}, [{"role": "user", "content": "hi"}])


def test_a_lost_definition_does_not_take_its_sessions_along(damaged: Damaged, make_kit: Callable[..., Kit]) -> None:
    """R121: inputs, steps and outputs are there to be read; what has not ended waits for an operator."""
    damaged.overwrite(*leaf_pages(damaged.file, damaged.root_of("cascade_definitions")))
    kit = damaged.kit(make_kit)
    mended = damaged.mend(kit)
    assert mended.salvaged.rows["cascade_sessions"] == SESSIONS + 2
    assert len(mended.suspended) == SESSIONS
    assert kit.cascades.session("ended-1").to_dict()["output"] == 1
    with pytest.raises(NotResumable, match="its definition is not stored"):
        kit.cascades.session("open-001").resume()


def test_the_store_keeps_its_id_so_that_messages_under_way_still_count(
    damaged: Damaged, big: Path, make_kit: Callable[..., Kit]
) -> None:
    """R158."""
    with closing(sqlite3.connect(big)) as connection:
        (before,) = connection.execute("SELECT value FROM cascade_meta WHERE name = 'store_id'").fetchone()
    kit = damaged.overwrite(1).kit(make_kit)
    damaged.mend(kit)
    assert kit.runtime.store_id == before


def test_what_stands_in_the_log_is_salvaged_too(damaged: Damaged, make_kit: Callable[..., Kit]) -> None:
    """A store whose process was killed: the newest transactions are in the -wal only, which moves with its file."""
    writer = sqlite3.connect(damaged.file)
    writer.execute("PRAGMA journal_mode = WAL")
    writer.execute("UPDATE session_states SET current_phase = 'in the log' WHERE session_id = 'ended-1'")
    writer.commit()
    wal = damaged.file.with_name(damaged.file.name + "-wal")
    content, log = damaged.file.read_bytes(), wal.read_bytes()
    writer.close()
    assert log
    damaged.file.write_bytes(content)
    damaged.overwrite(1)
    wal.write_bytes(log)
    kit = damaged.kit(make_kit)
    mended = damaged.mend(kit)
    assert kit.store.session("ended-1")["current_phase"] == "in the log"
    assert mended.moved_to.with_name(mended.moved_to.name + "-wal").read_bytes() == log


def test_a_lost_head_is_made_anew_and_waits(damaged: Damaged, make_kit: Callable[..., Kit]) -> None:
    """Its steps and inputs are there: `ls` must not lose it."""
    with closing(sqlite3.connect(damaged.file)) as connection:
        connection.execute("DELETE FROM session_states WHERE session_id = 'ended-1'")
        connection.commit()
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    damaged.overwrite(damaged.root_of("session_signals"))
    kit = damaged.kit(make_kit)
    mended = damaged.mend(kit)
    assert mended.suspended == {"ended-1": "its head was lost"}
    session = kit.cascades.session("ended-1")
    assert (session.status, session.reason) == ("suspended", "in_doubt")
    session.resume()
    assert (session.status, session.output) == ("completed", 1)


HOLDER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1])
connection.execute("PRAGMA journal_mode = WAL")
connection.execute("SELECT count(*) FROM cascade_meta").fetchall()
print("open", flush=True)
sys.stdin.read()
"""


def test_a_store_that_somebody_has_open_is_not_moved(damaged: Damaged, make_kit: Callable[..., Kit]) -> None:
    """D4: who writes on would write to the file that nobody reads any more."""
    damaged.overwrite(leaf_pages(damaged.file, damaged.root_of("session_steps"))[3])
    before = damaged.file.read_bytes()
    command = [sys.executable, "-c", HOLDER, str(damaged.file)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "open\n"
        with pytest.raises(SessionConflict, match=f"is in use by pid {holder.pid}") as told:
            damaged.mend(damaged.kit(make_kit))
        assert "cascade doctor --fix" in told.value.hint
        holder.communicate("")
    assert damaged.file.read_bytes() == before
    assert list(damaged.file.parent.glob("*corrupt*")) == []
    damaged.mend(damaged.kit(make_kit))


def test_a_worker_that_was_heard_of_lately_is_in_the_way_too(damaged: Damaged, make_kit: Callable[..., Kit]) -> None:
    """A prefork worker's main process has the file open for a moment at each beat only."""
    with closing(sqlite3.connect(damaged.file)) as connection:
        connection.execute(
            "INSERT INTO cascade_workers (id, nodename, host, pid) VALUES ('w', 'w@elsewhere', 'elsewhere', 1)"
        )
        connection.commit()
    damaged.overwrite(damaged.root_of("session_signals"))
    with pytest.raises(SessionConflict, match="worker w@elsewhere"):
        damaged.mend(damaged.kit(make_kit))


def test_no_room_for_the_new_store_changes_nothing(
    damaged: Damaged, make_kit: Callable[..., Kit], monkeypatch: pytest.MonkeyPatch
) -> None:
    damaged.overwrite(1)
    before = damaged.file.read_bytes()

    def full(*_: Any) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(mending, "salvage", full)
    with pytest.raises(StoreUnavailable, match="cannot be written: database or disk is full"):
        damaged.mend(damaged.kit(make_kit))
    assert damaged.file.read_bytes() == before
    assert sorted(path.name for path in damaged.file.parent.glob("damaged*")) == ["damaged.sqlite"]


def test_damage_that_is_met_on_the_way_stops_this_process_from_writing(kit: Kit) -> None:
    """D4: also in a file that was too large to be looked through when it was opened."""
    for number in range(40):
        kit.start(*WIDE, session_id=f"open-{number:03}")
    kit.runtime.store.database.dispose()
    file = kit.runtime.store.database.file
    assert file is not None
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        (root,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'session_steps'").fetchone()
    content = bytearray(file.read_bytes())
    content[(root - 1) * PAGE : root * PAGE] = NOISE
    file.write_bytes(content)
    with pytest.raises(StoreDamaged):
        kit.cascades.session("open-001").to_dict()
    for attempt in (lambda: kit.start("a"), lambda: kit.store.beat("w")):
        with pytest.raises(StoreDamaged, match="doctor --fix"):
            attempt()
    assert file.read_bytes() == bytes(content)
    mended = mend(kit.runtime, file, lambda table, rows: None)
    assert mended.salvaged.rows["session_steps"] == 200
    assert kit.start("a").status == "active"  # this process goes on with the new file


def test_a_file_that_was_replaced_is_opened_anew(kit: Kit, sqlite_store: str, tmp_path: Path) -> None:
    """A restored backup: connections to the old file would write where nobody looks."""
    kit.start("a", session_id="before")
    file = kit.runtime.store.database.file
    assert file is not None
    kit.runtime.store.database.dispose()
    backup = tmp_path / "backup.sqlite"
    backup.write_bytes(file.read_bytes())
    kit.start("a", session_id="after")
    for suffix in ("-wal", "-shm"):
        file.with_name(file.name + suffix).unlink(missing_ok=True)
    os.replace(backup, file)
    kit.start("a", session_id="anew")
    assert {session.id for session in kit.cascades.sessions()} == {"before", "anew"}
