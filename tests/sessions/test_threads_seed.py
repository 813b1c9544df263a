"""R107: the third seed's six manual tests, each with its automated twin, and its checklist as a list of tests.

The seed has a web server, a database file and a button for each; here it is the Python face, over the same rows.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from celery_cascade import Session, current_session
from celery_cascade.errors import SessionNotFound
from celery_cascade.persistence import tables
from sessions.kit import Kit

CHAT = """\
cascade: chat
inputs: {message: string}
steps:
  - {id: answer, task: chat, with: {message: "{{ inputs.message }}"}}
"""
USER = "default-user"
THREAD = "thread-1234567890"


def server(make_kit: Callable[..., Kit], url: str | None) -> Kit:
    """The seed's server with its agent, which remembers the last question."""
    kit = make_kit(url)

    @kit.task("chat")
    def chat(message: str) -> str:
        session = current_session()
        assert session is not None
        asked = [said["content"] for said in session.conversation_history if said["role"] == "user"]
        answer = f"Your last question was: {asked[-1]}" if message == "What was my last question?" else "4"
        session.say("user", message)
        session.say("assistant", answer)
        session.context["questions"] = len(asked) + 1
        return answer

    return kit


@pytest.fixture
def dev(make_kit: Callable[..., Kit], sqlite_store: str) -> Kit:
    return server(make_kit, sqlite_store)


def ask(kit: Kit, message: str, thread: str = THREAD, resource: str = USER) -> Session:
    """One `/api/chat` request, answered."""
    session = kit.cascades.start(
        kit.file(CHAT, "chat.yaml"), {"message": message}, thread_id=thread, resource_id=resource
    )
    kit.deliver()
    return session


def test_1_new_conversation_creates_session(dev: Kit, caplog: pytest.LogCaptureFixture) -> None:
    """R107, R97: the response has the session's id, the log says so, and the mapping is saved."""
    with caplog.at_level(logging.INFO, "celery_cascade"):
        session = ask(dev, "What is 2+2?")
    assert session.result(timeout=5) == "4"
    assert any("Saved session mapping" in text for text in caplog.messages)
    assert dev.cascades.threads.get(THREAD, USER) == session.id


def test_2_resuming_conversation(dev: Kit, caplog: pytest.LogCaptureFixture) -> None:
    """R107, R98: the follow-up finds its session, and the agent remembers "2+2"."""
    first = ask(dev, "What is 2+2?")
    with caplog.at_level(logging.INFO, "celery_cascade"):
        second = ask(dev, "What was my last question?")
    assert any(text.startswith(f"Resuming session: {first.id}") for text in caplog.messages)
    assert second.result(timeout=5) == "Your last question was: What is 2+2?"
    assert second.continues == first.id


def test_3_list_sessions(dev: Kit) -> None:
    """R107, R91, R96: the threads of a user with their sessions and times."""
    session = ask(dev, "What is 2+2?")
    ask(dev, "hello", thread="thread-of-another", resource="somebody-else")
    (found,) = dev.cascades.threads.list(USER)
    assert (found["thread_id"], found["resource_id"], found["session_id"]) == (THREAD, USER, session.id)
    assert found["created_at"].endswith("Z")
    assert found["updated_at"].endswith("Z")
    assert json.loads(json.dumps(found)) == found


def test_4_delete_session(dev: Kit) -> None:
    """R107, R91, D10: that pair is gone, twice is no error; the next message begins a new conversation."""
    first = ask(dev, "What is 2+2?")
    threads = dev.cascades.threads
    assert threads.delete(THREAD, USER) is True
    assert threads.delete(THREAD, USER) is False
    assert (threads.get(THREAD, USER), threads.metadata(THREAD, USER), list(threads.list(USER))) == (None, None, [])
    assert ask(dev, "hello").continues is None
    assert first.status == "completed"


def test_5_fork_session(dev: Kit) -> None:
    """R107, R100, R102: a branch with what the parent knows; then each goes on by itself, the parent as it was."""
    ask(dev, "What is 2+2?")
    parent = ask(dev, "And 3+3?")
    before = rows_of(dev)
    made = dev.cascades.threads.fork(THREAD, USER, "fork-1")
    branch = ask(dev, "Now multiply instead of add", thread="fork-1")
    assert before.items() <= rows_of(dev).items(), "every row of the parent is as it was, byte for byte"

    assert branch.continues == made.session_id
    questions = [said["content"] for said in branch.conversation_history if said["role"] == "user"]
    assert questions == ["What is 2+2?", "And 3+3?", "Now multiply instead of add"]
    assert branch.context["questions"] == 3
    later = ask(dev, "What was my last question?")
    assert later.result(timeout=5) == "Your last question was: And 3+3?"
    assert len(later.conversation_history) == 6
    found = {one["thread_id"]: one["session_id"] for one in dev.cascades.threads.list(USER)}
    assert found == {THREAD: later.id, "fork-1": branch.id}
    assert parent.continues != branch.continues
    with pytest.raises(SessionNotFound, match="Cannot fork from non-existent thread"):
        dev.cascades.threads.fork(THREAD, "somebody-else")


def rows_of(kit: Kit) -> dict[tuple[Any, ...], tuple[Any, ...]]:
    """Every row of every session, and of the thread."""
    named = ("cascade_sessions", "session_states", "session_steps", "session_messages", "session_context")
    found = {}
    for table in (*named, "session_mappings"):
        for row in kit.sql(f"SELECT * FROM {table}"):
            found[table, *row] = tuple(row)
    return found


def test_6_persistence_across_restarts(
    dev: Kit, make_kit: Callable[..., Kit], caplog: pytest.LogCaptureFixture
) -> None:
    """R107, R104: the server stops, another one starts; same thread, and the agent remembers."""
    ask(dev, "What is 2+2?")
    last = ask(dev, "And 3+3?")
    dev.store.database.dispose()

    restarted = server(make_kit, dev.url)
    assert restarted.cascades.threads.get(THREAD, USER) == last.id
    session = ask(restarted, "What was my last question?")
    assert session.result(timeout=5) == "Your last question was: And 3+3?"
    assert session.context["questions"] == 3
    assert len(session.conversation_history) == 6


# -- "Validation Checklist"
def session_id_storage(kit: Kit) -> bool:
    session = ask(kit, "hello")
    return kit.sql("SELECT session_id FROM session_mappings") == [(session.id,)]


def automatic_session_resumption(kit: Kit) -> bool:
    return bool(ask(kit, "one").id == ask(kit, "two").continues)


def context_preserved_across_messages(kit: Kit) -> bool:
    ask(kit, "one")
    return bool(ask(kit, "two").context["questions"] == 2)


def thread_and_resource_mapping_correct(kit: Kit) -> bool:
    mine, other, others = ask(kit, "a"), ask(kit, "b", thread="t2"), ask(kit, "c", resource="bob")
    found = {(one["thread_id"], one["session_id"]) for one in kit.cascades.threads.list(USER)}
    return found == {(THREAD, mine.id), ("t2", other.id)} and kit.cascades.threads.get(THREAD, "bob") == others.id


def sessions_listed_and_deleted(kit: Kit) -> bool:
    ask(kit, "a")
    threads = kit.cascades.threads
    return len(threads.list(USER)) == 1 and threads.delete(THREAD, USER) and not threads.list(USER)


def session_forking_support(kit: Kit) -> bool:
    ask(kit, "one")
    kit.cascades.threads.fork(THREAD, USER, "fork-1")
    return bool(ask(kit, "two", thread="fork-1").context["questions"] == 2 == ask(kit, "two").context["questions"])


def session_metadata(kit: Kit) -> bool:
    ask(kit, "a")
    kit.sql("UPDATE session_mappings SET created_at = '2020-01-01 00:00:00', updated_at = created_at")
    ask(kit, "b")
    found: dict[str, Any] = kit.cascades.threads.metadata(THREAD, USER) or {}
    return bool(found["created_at"] == "2020-01-01T00:00:00Z" and found["updated_at"] > found["created_at"])


def context_preserved_across_server_restarts(kit: Kit) -> bool:
    ask(kit, "one")
    again = server(lambda url: kit.again(), kit.url)
    try:
        return bool(ask(again, "two").context["questions"] == 2)
    finally:
        again.store.database.dispose()
        again.app.close()


#: As the seed words it.
CHECKLIST: dict[str, Callable[[Kit], bool]] = {
    "Session ID storage": session_id_storage,
    "Automatic session resumption": automatic_session_resumption,
    "Context preserved across messages": context_preserved_across_messages,
    "Thread/resource mapping correct": thread_and_resource_mapping_correct,
    "Sessions listed/deleted via API": sessions_listed_and_deleted,
    "Session forking support": session_forking_support,
    "Session metadata (created date, last message)": session_metadata,
    "Context preserved across server restarts": context_preserved_across_server_restarts,
}


@pytest.mark.parametrize("point", CHECKLIST)
def test_the_validation_checklist(dev: Kit, point: str) -> None:
    """R107."""
    assert CHECKLIST[point](dev)


def test_the_default_folder_of_the_store_is_made_on_first_use(make_kit: Callable[..., Kit], tmp_path: Path) -> None:
    """R92: nothing is set up by hand."""
    kit = make_kit(None)
    assert not (tmp_path / "home").exists()
    session = kit.start("a", thread_id=THREAD, resource_id=USER)
    assert (tmp_path / "home" / "store.sqlite").exists()
    assert kit.cascades.threads.get(THREAD, USER) == session.id


def test_no_history_is_copied_into_the_mapping(dev: Kit) -> None:
    """R106, D12: the messages are where they were said, once each, and the mapping is one row."""
    for number in range(5):
        ask(dev, f"question {number}")
    assert dev.sql("SELECT count(*) FROM session_mappings") == [(1,)]
    assert dev.sql("SELECT count(*) FROM session_messages") == [(10,)]
    assert {column.name for column in tables.mappings.columns} == {
        "thread_id", "resource_id", "session_id", "created_at", "updated_at",
    }  # fmt: skip
