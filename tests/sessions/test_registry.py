"""`cascades.last_session(file)`: the session registry from Python."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from celery_cascade.errors import DefinitionNotFound, UsageError
from celery_cascade.sessions.execution_key import execution_key
from celery_cascade.sessions.session import Session
from sessions.kit import CHAIN, Kit

BROKEN = """\
cascade: broken
steps:
  - {id: a, task: add}
  - {id: b, task: add, with: {x: "{{ outputs.a }}"}}
  - {id: c, task: broken, with: {word: mended, value: "{{ outputs.b }}"}}
  - {id: d, task: add, with: {x: "{{ outputs.c }}"}}
"""


def last(kit: Kit, *files: Any) -> Session:
    found = kit.cascades.last_session(*files)
    assert found is not None
    return found


def test_the_last_session_of_a_file_is_found_whatever_became_of_it(any_kit: Kit) -> None:
    """R59, R65, R88: in a new process, too; on each of the databases."""
    file = any_kit.file(CHAIN)
    assert any_kit.cascades.last_session(file) is None
    first, second = any_kit.cascades.start(file), any_kit.cascades.run(file)
    assert last(any_kit, file) == second
    assert second.status == "completed"
    assert any_kit.cascades.last_session(any_kit.file(CHAIN, "copy.yaml")) is None, "the same bytes, another file"
    later = any_kit.again()
    assert last(later, Path(file)).id == second.id
    third = later.cascades.start(file)
    assert last(any_kit, file).id == third.id
    third.cancel()
    assert (last(any_kit, file).id, last(any_kit, file).status) == (third.id, "cancelled")
    assert first.status == "active"


def test_the_key_is_of_the_real_paths_and_of_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """R62: sha256 of the sorted absolute paths joined by "|", first 16 hex digits."""
    import hashlib

    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.yaml").write_text("one")
    (tmp_path / "link.yaml").symlink_to("a.yaml")
    (tmp_path / "folder").mkdir()
    a, b = str(tmp_path / "a.yaml"), str(tmp_path / "b.yaml")
    key = execution_key([a, b])
    assert key == hashlib.sha256(f"{os.path.realpath(a)}|{os.path.realpath(b)}".encode()).hexdigest()[:16]
    assert key == execution_key([b, a]) == execution_key(["a.yaml", "./b.yaml"]) == execution_key([a, b, "link.yaml"])
    assert execution_key([a]) == execution_key(["link.yaml"]) == execution_key(["folder/../a.yaml"])
    (tmp_path / "a.yaml").write_text("another")
    assert execution_key([a, b]) == key
    assert len({execution_key([a]), execution_key([b]), key, execution_key([a, str(tmp_path / "c.yaml")])}) == 4


def test_what_a_start_saves_is_what_a_look_finds(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    """R62, R68: saved by one spelling, looked for by another; the file may be gone by then."""
    kit.file(CHAIN)
    monkeypatch.chdir(kit.folder)
    session = kit.cascades.start("./order.yaml")
    (kit.folder / "link.yaml").symlink_to(kit.folder / "order.yaml")
    for way in ("order.yaml", kit.folder / "order.yaml", "link.yaml"):
        assert last(kit, way) == session
    (kit.folder / "order.yaml").write_text("cascade: [ edited and broken")
    assert last(kit, "order.yaml") == session
    os.remove(kit.folder / "order.yaml")
    assert last(kit, "order.yaml") == session


def test_a_registered_name_stands_for_its_file(kit: Kit) -> None:
    file = kit.file(CHAIN)
    kit.cascades.register(file)
    session = kit.cascades.start("chain")
    assert last(kit, "chain") == last(kit, file) == session


def test_several_files_are_a_set_of_their_own(kit: Kit) -> None:
    """R62: a b is b a, and neither a nor a c."""
    from celery_cascade.sessions.starting import StartOptions

    a, b, c = (kit.file(CHAIN, f"{name}.yaml") for name in "abc")
    both = kit.cascades.start_with(a, None, StartOptions(files=(a, b)))
    alone = kit.cascades.start(a)
    assert last(kit, a, b) == last(kit, b, a) == both
    assert last(kit, a) == alone
    assert kit.cascades.last_session(a, c) is None


def test_sessions_without_a_file_are_found_by_none(kit: Kit) -> None:
    kit.start("a")
    assert kit.cascades.last_session(kit.file(CHAIN)) is None


@pytest.mark.parametrize("given", [(), (None,), (7,), ("",), ("a\0.yaml",), ("\ud800.yaml",), (b"a.yaml",)])
def test_what_is_no_path_is_refused(kit: Kit, given: tuple[Any, ...]) -> None:
    with pytest.raises(UsageError):
        kit.cascades.last_session(*given)


def test_a_name_that_is_nothing_is_not_found(kit: Kit) -> None:
    """R75: a typing error is not the same as a file that was never run."""
    kit.cascades.register(kit.file(CHAIN))
    with pytest.raises(DefinitionNotFound, match="did you mean 'chain'"):
        kit.cascades.last_session("chian")


def test_checkpoints_are_numbered_on_over_a_resume_and_none_is_written_anew(any_kit: Kit) -> None:
    """R66, R67, R69: 16, then 17; what is checkpointed is not run again."""
    file = any_kit.file(BROKEN, "broken.yaml")
    any_kit.cascades.run(file)
    session = last(any_kit, file)
    before = session.checkpoints
    assert [one["step"] for one in before] == ["a", "b"]
    any_kit.fix.add("mended")
    with_driver = any_kit.cascades.session(session.id)
    with_driver.resume()
    any_kit.deliver()
    after = session.checkpoints
    assert after[:2] == before
    numbers = [one["number"] for one in after]
    assert (session.status, numbers) == ("completed", sorted(set(numbers)))
    assert [one["checkpoint"] for one in after] == [f"{session.id}_ckpt_{number}" for number in numbers]
    assert {step: any_kit.counts[step] for step in "abd"} == {"a": 1, "b": 1, "d": 1}
