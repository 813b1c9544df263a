"""What a start writes down: the exact bytes, the inputs, and where they came from."""

from __future__ import annotations

import hashlib
import sys
import uuid
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml
from sqlalchemy import inspect

from celery_cascade.errors import NotSerializable
from celery_cascade.sessions.execution_key import execution_key
from sessions.kit import CHAIN, Kit, cascade


def test_the_table_has_the_columns_that_the_seed_names(any_kit: Kit) -> None:
    """R1: after the migration; the definition is there by its digest, and as text in the view (D5)."""
    found = inspect(any_kit.store.database.engine)
    columns = {column["name"] for column in found.get_columns("cascade_sessions")}
    assert columns >= {
        "session_id", "cascade_id", "input_data", "config_path", "created_at", "parent_session_id", "depth",
        "definition_digest",
    }  # fmt: skip
    seen = {column["name"] for column in found.get_columns("cascade_sessions_full")}
    assert seen >= {"session_id", "cascade_id", "cascade_definition", "input_data", "config_path", "depth"}


EXACT = {
    "comments and anchors": b"# who\ncascade: x # what\nsteps:\n- &a {id: one, task: add}\n- {<<: *a, id: two}\n",
    "CRLF": b"cascade: x\r\nsteps:\r\n  - {id: one, task: add}\r\n",
    "BOM": b"\xef\xbb\xbfcascade: x\nsteps: [{id: one, task: add}]\n",
    "no final newline": b"cascade: x\nsteps: [{id: one, task: add}]",
    "trailing blanks": b"cascade: x   \nsteps: [{id: one, task: add}]\n\n  \n",
    "not ASCII": "cascade: x\ndescription: Zoë ☃ 好\nsteps: [{id: one, task: add}]\n".encode(),
}


@pytest.mark.parametrize("body", EXACT.values(), ids=EXACT.keys())
def test_the_bytes_come_back_as_they_were(any_kit: Kit, body: bytes) -> None:
    """R2: character for character; the digest is that of the bytes."""
    try:
        session = any_kit.cascades.start(any_kit.file(body))
    except Exception as error:
        if b"<<" in body and "<<" in str(error):  # merge keys are refused, then nothing is stored at all
            return
        raise
    assert session.definition == body
    assert session.to_dict()["definition_sha256"] == hashlib.sha256(body).hexdigest()


def test_the_file_is_opened_once(kit: Kit) -> None:
    """R3: what is parsed is what is stored; a file that is swapped in between cannot come in."""
    path = kit.file(CHAIN)
    opened: list[str] = []
    watching = True

    def hook(event: str, arguments: Any) -> None:
        if watching and event == "open" and arguments[0] == path:
            opened.append(path)

    sys.addaudithook(hook)
    kit.cascades.start(path)
    watching = False
    assert opened == [path]


def test_a_session_keeps_the_text_that_it_was_started_with(kit: Kit) -> None:
    """R3, R9, D7: an edited, moved or deleted file changes nothing in a session that has begun."""
    path = kit.file(CHAIN)
    session = kit.cascades.start(path)
    Path(path).write_text(CHAIN.replace("task: add", "task: broken"))
    kit.deliver()
    assert session.output == 3
    Path(path).unlink()
    assert session.to_dict()["config_path"] == path
    assert session.definition.decode() == CHAIN


def test_a_mapping_becomes_yaml_that_reads_back_equal(kit: Kit) -> None:
    """R4, R5, R9: the format is `inline`, there is no path, and no Python tag."""
    given = cascade("b", {"id": "a", "task": "echo", "with": {"z": 1, "a": [None, True, "no", "22:30", 1.5]}})
    session = kit.cascades.run(given)
    text = session.definition.decode()
    assert yaml.safe_load(text) == given
    assert list(yaml.safe_load(text)) == list(given)
    assert "!!python" not in text
    assert session.source.format == "inline"
    assert session.to_dict()["config_path"] is None


def test_the_format_is_told(kit: Kit) -> None:
    """R5: yaml, json or inline."""
    made = kit.cascades.start(kit.file(CHAIN)).source
    assert (made.format, made.path) == ("yaml", str(kit.folder / "order.yaml"))
    json_file = kit.file('{"cascade": "j", "steps": [{"id": "a", "task": "add"}]}', "j.json")
    assert kit.cascades.start(json_file).source.format == "json"


def test_inputs_are_kept_as_they_were_or_refused(kit: Kit) -> None:
    """R6, R124: none given is {}; what JSON lacks comes back as it was; what cannot be kept is named, not dropped."""
    assert kit.start("a").inputs == {}
    kept = {
        "when": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        "day": date(2026, 1, 2),
        "price": Decimal("1.10"),
        "id": uuid.UUID(int=7),
        "raw": b"\x00\xff",
    }
    session = kit.run({"id": "a", "task": "echo", "with": {"all": "{{ inputs.price }}"}}, inputs=kept)
    assert session.inputs == kept
    assert session.output == {"all": Decimal("1.10")}
    before = kit.rows()
    for wrong, path in (({"a": {1, 2}}, r"inputs\.a: set"), ({"a": [{"b": float("inf")}]}, r"inputs\.a\[0\]\.b")):
        with pytest.raises(NotSerializable, match=path):
            kit.start("a", inputs=wrong)
    assert kit.rows() == before


def test_created_at_is_aware_and_now(kit: Kit) -> None:
    """R11: in UTC, set at save."""
    before = datetime.now(UTC) - timedelta(seconds=1)
    session = kit.start("a")
    created = datetime.fromisoformat(session.to_dict()["created_at"])
    assert before <= created <= datetime.now(UTC) + timedelta(seconds=1)


def test_the_key_of_a_run_is_that_of_its_file(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    """R62, R68: sixteen hex digits of the real path; saved and looked up by the same function."""
    path = kit.file(CHAIN)
    key = hashlib.sha256(path.encode()).hexdigest()[:16]
    session = kit.cascades.start(path)
    assert kit.store.session(session.id)["execution_key"] == key
    assert execution_key([path]) == key
    monkeypatch.chdir(kit.folder)
    link = kit.folder / "link.yaml"
    link.symlink_to(path)
    assert kit.store.session(kit.cascades.start("order.yaml").id)["execution_key"] == key
    assert kit.store.session(kit.cascades.start(link).id)["execution_key"] == key
    Path(path).write_text(CHAIN + "# edited\n")
    assert kit.store.session(kit.cascades.start(path).id)["execution_key"] == key
    other = kit.file(CHAIN, "other.yaml")
    assert execution_key([path, other]) == execution_key([other, path]) != key
    assert kit.store.session(kit.start("a").id)["execution_key"] is None


def test_one_definition_is_stored_once(kit: Kit) -> None:
    """D5: its bytes are shared by all runs, each of which is a row of its own."""
    path = kit.file(CHAIN)
    for _ in range(3):
        kit.cascades.start(path)
    rows = kit.rows()
    assert (rows["cascade_sessions"], rows["cascade_definitions"]) == (3, 1)


def test_the_default_store_is_made_on_first_use(make_kit: Any, tmp_path: Path) -> None:
    """R111, D4, R87: no setting is needed; nothing is made before somebody starts; it migrates itself."""
    kit = make_kit(None)
    home = tmp_path / "home"
    kit.app.tasks["add"](1)
    assert kit.ran == ["plain"]
    assert not home.exists()
    assert kit.run("a").output == 1
    assert (home / "store.sqlite").is_file()


def test_the_folder_of_the_default_store_can_be_chosen(
    make_kit: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R111: by the environment too."""
    monkeypatch.setenv("CELERY_CASCADE_HOME", str(tmp_path / "elsewhere" / "deep"))
    kit = make_kit(None, cascade_home=None)
    kit.run("a")
    assert (tmp_path / "elsewhere" / "deep" / "store.sqlite").is_file()
