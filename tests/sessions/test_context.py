"""`session.context`: a dict of the store's, each change a compare-and-set on the session's version (R38, R42)."""

from __future__ import annotations

import copy
import json
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from celery_cascade import Session, retry_stale
from celery_cascade.errors import (
    NotSerializable,
    PayloadTooLarge,
    SessionConflict,
    SessionNotFound,
    StaleState,
    StoreError,
    StoreUnavailable,
    UsageError,
)
from sessions.kit import Kit
from support.cluster import environment

ADD_ONES = """
import sys
from celery import Celery
from celery_cascade import Cascades, retry_stale
from celery_cascade.errors import StaleState
url, session_id, alone, repeated = sys.argv[1:]
app = Celery("adder", broker="memory://", set_as_current=False)
app.conf.cascade_database_url = url
session = Cascades(app).session(session_id)

def add_one():
    session.context["n"] += 1

def add_one_if_nobody_is_in_the_way():
    try:
        session.context["n"] += 1
    except StaleState:
        return 0
    return 1

def begin(word):
    print(word, flush=True)
    sys.stdin.readline()  # until both are there

begin("ready")
begin(sum(add_one_if_nobody_is_in_the_way() for _ in range(int(alone))))
for _ in range(int(repeated)):
    retry_stale(add_one)
print("done")
"""


class Adder:
    """A process that adds ones to the context of a session, in two rounds."""

    def __init__(self, url: str, session: Session, *, alone: int, repeated: int) -> None:
        command = [sys.executable, "-c", ADD_ONES, url, session.id, str(alone), str(repeated)]
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        self.process = subprocess.Popen(command, env=environment(), text=True, **pipes)

    def says(self) -> str:
        return str(self.process.stdout.readline().strip())

    def go(self) -> None:
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def end(self) -> str:
        said, error = self.process.communicate(timeout=120)
        assert error == ""
        return said.strip()


def test_two_processes_that_add_ones_lose_none(any_kit: Kit, store_url: str) -> None:
    """R38: 2 x 1,000 `session.context["n"] += 1` with the retry helper give 2,000; without it, conflicts and no loss.

    Each write that succeeds raises the version by one, and what did not raise was written.
    """
    session = any_kit.start("a")
    session.context["n"] = 0
    began = session.version
    both = [Adder(store_url, session, alone=200, repeated=1000) for _ in range(2)]
    assert [adder.says() for adder in both] == ["ready", "ready"]
    for adder in both:
        adder.go()
    written = sum(int(adder.says()) for adder in both)
    assert 200 <= written <= 400
    assert (session.context, session.version) == ({"n": written}, began + written)
    session.context["n"] = 0
    for adder in both:
        adder.go()
    assert [adder.end() for adder in both] == ["done", "done"]
    assert (session.context, session.version) == ({"n": 2000}, began + written + 1 + 2000)


# -- what a change is


def test_each_change_is_written_at_once_and_raises_the_version_by_one(any_kit: Kit) -> None:
    """R38, R42: nested ones too, whichever way they are made."""
    session = any_kit.start("a")
    assert session.context == {}
    changes: list[tuple[Callable[[Any], Any], dict[str, Any]]] = [
        (lambda ctx: ctx.update(a={"b": []}, n=1), {"a": {"b": []}, "n": 1}),
        (lambda ctx: ctx["a"]["b"].append(1), {"a": {"b": [1]}, "n": 1}),
        (lambda ctx: ctx["a"]["b"].extend([{"c": 2}, 3]), {"a": {"b": [1, {"c": 2}, 3]}, "n": 1}),
        (lambda ctx: ctx["a"]["b"][1].setdefault("d", []), {"a": {"b": [1, {"c": 2, "d": []}, 3]}, "n": 1}),
        (lambda ctx: ctx["a"]["b"][1].setdefault("d").append(4), {"a": {"b": [1, {"c": 2, "d": [4]}, 3]}, "n": 1}),
        (lambda ctx: ctx["a"]["b"].pop(1), {"a": {"b": [1, 3]}, "n": 1}),
        (lambda ctx: ctx.__delitem__("a"), {"n": 1}),
        (lambda ctx: ctx.setdefault("m", 7), {"n": 1, "m": 7}),
        (lambda ctx: ctx.pop("m"), {"n": 1}),
        (lambda ctx: ctx.clear(), {}),
    ]
    for change, expected in changes:
        before, context = any_kit.store.head(session.id), session.context
        change(context)
        after = any_kit.store.head(session.id)
        assert session.context == context == expected
        assert after["version"] == context.version == before["version"] + 1


def test_a_lone_append_deep_inside_is_saved(any_kit: Kit) -> None:
    """R42, as it is judged."""
    session = any_kit.start("a")
    session.context["a"] = {"b": []}
    any_kit.sql("UPDATE session_states SET updated_at = '2020-01-01 00:00:00' WHERE session_id = :s", s=session.id)
    version = session.version
    ctx = session.context
    ctx["a"]["b"].append(1)
    assert session.version == version + 1
    assert any_kit.store.head(session.id)["updated_at"].year > 2020
    assert session.context == {"a": {"b": [1]}}


def test_a_block_is_one_write(kit: Kit) -> None:
    session = kit.start("a")
    version = session.version
    with session.context as ctx:
        ctx["n"] = 1
        ctx["list"] = [1]
        ctx["list"].append(2)
        ctx["n"] += 1
        assert session.context == {}
    assert session.version == version + 1 == ctx.version
    assert session.context == {"n": 2, "list": [1, 2]}
    ctx["n"] = 3  # the object can be used on
    assert session.context["n"] == 3


def test_a_block_that_raises_writes_nothing_and_its_object_is_done_for(kit: Kit) -> None:
    session = kit.start("a")
    version = session.version
    with pytest.raises(ZeroDivisionError), session.context as ctx:
        ctx["n"] = 1 / 0

    def change_and_fail() -> Any:
        nonlocal ctx
        with session.context as ctx:
            ctx["n"] = 1
            ctx["n"] /= 0

    with pytest.raises(ZeroDivisionError):
        change_and_fail()
    with pytest.raises(StaleState, match="given up"):
        ctx["m"] = 1
    assert (session.version, session.context) == (version, {})


def test_what_changes_nothing_writes_nothing(kit: Kit) -> None:
    session = kit.start("a")
    session.context.update(n=1, a=[])
    version = session.version
    session.context["n"] = 1
    session.context.setdefault("n", 5)
    session.context.pop("nothing", None)
    session.context["a"].extend([])
    with session.context as ctx:
        ctx["n"] += 1
        ctx["n"] -= 1
    assert session.version == version


def test_operators_of_dicts_work_on_the_property(kit: Kit) -> None:
    session = kit.start("a")
    session.context |= {"n": 1}
    session.context["n"] += 1
    assert session.context == {"n": 2}
    assert json.loads(json.dumps(session.context)) == {"n": 2}
    with pytest.raises(UsageError, match="not assigned as a whole"):
        session.context = {"n": 3}


def test_copies_are_plain_values(kit: Kit) -> None:
    session = kit.start("a")
    session.context["a"] = {"b": []}
    version = session.version
    for copied in (copy.deepcopy(session.context), pickle.loads(pickle.dumps(session.context))):
        assert type(copied) is dict
        copied["a"]["b"].append(1)
    assert session.version == version


# -- conflicts


def test_a_stale_writer_gets_ids_versions_and_the_way_out_and_overwrites_nothing(any_kit: Kit) -> None:
    """R38, R150: a retry after reading again succeeds."""
    session = any_kit.start("a")
    mine, theirs = session.context, session.context
    theirs["n"] = "theirs"
    with pytest.raises(StaleState) as caught:
        mine["n"] = "mine"
    assert caught.value.exit_code == 4
    assert session.id in caught.value.message
    assert f"at version {theirs.version}" in caught.value.message
    assert f"read at version {mine.version};" in caught.value.message
    assert "retry_stale" in caught.value.hint
    assert session.context == {"n": "theirs"}
    assert mine == {}, "the refused change is not left in memory"
    session.context["n"] = "mine"
    assert session.context == {"n": "mine"}


def test_a_checkpoint_makes_a_context_stale(any_kit: Kit) -> None:
    """A checkpoint raises the version whatever else happens; the change of the context is repeated."""
    session = any_kit.start("a", {"id": "b", "task": "broken"})
    ctx = session.context
    any_kit.deliver()
    with pytest.raises(StaleState, match=f"at version {session.version}"):
        ctx["n"] = 1
    assert session.context == {}


def test_a_busy_context_and_a_running_session_do_not_lose_or_block_one_another(any_kit: Kit) -> None:
    """R38: every checkpoint and every write of the context is there in the end."""
    steps = [f"s{number}" for number in range(25)]
    # A last step that waits for its retry keeps the session open until the writer has done its part.
    session = any_kit.start(*steps, {"id": "end", "task": "broken", "with": {"word": "writer"}})
    session.context["n"] = 0
    written, broken = [0], []

    def write() -> None:
        handle = any_kit.cascades.session(session.id)

        def add_one() -> None:
            handle.context["n"] += 1

        try:
            for _ in range(60):
                retry_stale(add_one)
                written[0] += 1
        except Exception as error:  # noqa: BLE001 - told below, in the test's own thread
            broken.append(error)

    writer = threading.Thread(target=write)
    writer.start()
    any_kit.deliver()
    writer.join(60)
    assert (broken, written) == ([], [60])
    assert any_kit.counts == dict.fromkeys((*steps, "end"), 1)
    assert [step["status"] for step in session.steps] == ["succeeded"] * 25 + ["failed"]
    any_kit.fix.add("writer")
    session.resume()
    any_kit.deliver()
    assert session.status == "completed"
    assert session.context == {"n": 60}


def test_a_session_that_has_ended_for_good_keeps_its_context(any_kit: Kit) -> None:
    """Final means final; only a failed one may be mended before its resume."""
    done = any_kit.run("a")
    with pytest.raises(SessionConflict, match=f"session {done.id} is completed; its context cannot change"):
        done.context["n"] = 1
    gone = any_kit.start("a")
    gone.context["n"] = 1
    gone.cancel()
    with pytest.raises(SessionConflict, match="is cancelled"):
        gone.context["n"] += 1
    assert gone.context == {"n": 1}
    failed = any_kit.run({"id": "x", "task": "broken"})
    assert failed.status == "failed"
    failed.context["mended"] = True
    held = any_kit.start("a")
    held.suspend()
    held.context["n"] = 1
    assert (failed.context, held.context) == ({"mended": True}, {"n": 1})


def test_a_session_that_is_gone_is_told(kit: Kit) -> None:
    session = kit.start("a")
    ctx = session.context
    kit.store.delete_session(session.id)
    with pytest.raises(SessionNotFound, match=session.id):
        ctx["n"] = 1
    with pytest.raises(SessionNotFound, match=session.id):
        _ = session.context


def test_a_write_whose_answer_was_lost_is_not_taken_for_somebody_else_s(kit: Kit, monkeypatch) -> None:
    """Repeating it could count twice, so nothing is guessed."""
    session = kit.start("a")
    ctx = session.context
    transaction = kit.store.database.transaction

    def answer_lost(work: Callable[[Any], Any]) -> Any:
        assert transaction(work)
        return transaction(work)  # what is done when the connection breaks at the commit

    monkeypatch.setattr(kit.store.database, "transaction", answer_lost)
    with pytest.raises(StoreUnavailable, match="cannot be told"):
        ctx["n"] = 1
    assert session.context == {"n": 1}
    assert len(session.context_history) == 1


# -- values


def test_a_large_nested_unicode_value_comes_back_equal(any_kit: Kit) -> None:
    """R42: 1.5 MB."""
    said = {"é🚀": [{"n": number, "text": "ö" * 100, "none": None, "at": {"x": [1.5]}} for number in range(7_000)]}
    assert len(json.dumps(said, ensure_ascii=False).encode()) > 1_500_000
    session = any_kit.start("a")
    session.context["big"] = said
    assert session.context == {"big": said}


def test_values_go_through_the_codec(any_kit: Kit) -> None:
    session = any_kit.start("a")
    said = {"at": datetime(2030, 1, 2, tzinfo=UTC), "sum": Decimal("1.10"), "raw": b"\0", "__type__": 1, "t": (1, 2)}
    session.context["said"] = said
    session.context["tag"] = {"__type__": "x", "__value__": 1}
    assert session.context == {"said": said | {"t": [1, 2]}, "tag": {"__type__": "x", "__value__": 1}}


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ({"deep": [1, {2, 3}]}, r"context of session \S+\.x\.deep\[1\]: set is not JSON"),
        (float("nan"), r"context of session \S+\.x: nan is not JSON"),
        ({1: 2}, r"context of session \S+\.x: key 1 is int"),
        ("\ud800", r"lone surrogate"),
    ],
)
def test_what_cannot_be_stored_is_refused_by_path_and_not_kept_in_memory(kit: Kit, value: Any, path: str) -> None:
    """R84."""
    session = kit.start("a")
    session.context["list"] = [1]
    version, ctx = session.version, session.context
    with pytest.raises(NotSerializable, match=path):
        ctx["x"] = value
    with pytest.raises(NotSerializable, match=r"\.list\[1\]"):
        ctx["list"].append(object())
    assert ctx == {"list": [1]}
    ctx["list"].append(2)  # it is as if nothing had been asked for
    assert (session.context, session.version) == ({"list": [1, 2]}, version + 1)


def test_a_value_that_contains_itself_is_refused(kit: Kit) -> None:
    session = kit.start("a")
    ctx = session.context
    with pytest.raises(NotSerializable, match="contains itself"):
        ctx["me"] = ctx
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(NotSerializable, match="contains itself"):
        ctx["loop"] = loop
    assert session.context == ctx == {}


def test_too_large_a_context_names_its_size_its_limit_and_its_largest_entry(make_kit, sqlite_store: str) -> None:
    """R83."""
    session = make_kit(sqlite_store, cascade_max_payload_bytes=1000).start("a")
    session.context["small"] = "x" * 100
    with pytest.raises(PayloadTooLarge, match=r"limit is 1,000; its largest entry is 'big' with 2,002") as caught:
        session.context["big"] = "x" * 2000
    assert session.id in caught.value.message
    assert session.context == {"small": "x" * 100}


def test_what_somebody_else_broke_is_told(kit: Kit) -> None:
    session = kit.start("a")
    for broken in ("{", "[1]"):
        kit.sql(
            "UPDATE session_states SET context_variables = :broken WHERE session_id = :s", broken=broken, s=session.id
        )
        with pytest.raises(StoreError, match=f"session {session.id}: its context cannot be read"):
            _ = session.context


# -- the helper


def test_retry_stale_gives_back_what_the_work_gives_and_passes_other_errors_on() -> None:
    assert retry_stale(lambda: 7) == 7
    with pytest.raises(ZeroDivisionError):
        retry_stale(lambda: 1 / 0)


def test_retry_stale_gives_up_with_the_last_error(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr("celery_cascade.sessions.retrying.time.sleep", pauses.append)
    calls: list[int] = []

    def always_late() -> None:
        calls.append(1)
        raise StaleState(f"call {len(calls)}")

    with pytest.raises(StaleState, match="call 5"):
        retry_stale(always_late, attempts=5)
    assert len(calls) == 5
    assert len(pauses) == 4
    with pytest.raises(StaleState, match="call 105"):
        retry_stale(always_late)
    assert max(pauses) <= 0.05
    with pytest.raises(UsageError, match="attempts is 0"):
        retry_stale(always_late, attempts=0)
