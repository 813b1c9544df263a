"""`cascade init`: a small project that works as printed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from celery_cascade.cli import cascade
from celery_cascade.cli.init import FILES
from celery_cascade.definition import read_file, read_with_warnings
from cli.kit import Project
from support.cluster import wait_for

NAMES = set(FILES)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def init(*args: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(cascade, ["init", *args])
    return result.exit_code, result.stdout, result.stderr


def tree(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir() if path.is_file()}


def test_a_folder_is_made_with_all_that_a_project_needs(here: Path) -> None:
    code, stdout, stderr = init("orders")
    assert code == 0
    assert stdout.splitlines() == [f"orders/{name}" for name in FILES]
    assert set(tree(here / "orders")) == NAMES
    assert "cd orders\n" in stderr
    assert ".cascade/" in tree(here / "orders")[".gitignore"].splitlines()


def test_without_a_name_it_is_this_folder_and_what_else_is_there_does_not_matter(here: Path) -> None:
    (here / "other.py").write_text("mine")
    code, _, stderr = init()
    assert code == 0
    assert set(tree(here)) == NAMES | {"other.py"}
    assert "cd " not in stderr


@pytest.mark.parametrize("name", ["proj.py", ".gitignore"])
def test_nothing_is_ever_overwritten(here: Path, name: str) -> None:
    """Exit 4; what is in the way is named, and nothing is written beside it."""
    (here / name).write_text("mine")
    code, stdout, stderr = init()
    assert (code, stdout) == (4, "")
    assert f"has {name} already; nothing was written" in stderr
    assert tree(here) == {name: "mine"}
    assert init("orders")[0] == 0
    before = tree(here / "orders")
    code, _, stderr = init("orders")
    assert code == 4
    assert all(one in stderr for one in NAMES)
    assert tree(here / "orders") == before


def test_a_link_that_leads_nowhere_is_in_the_way_too(here: Path) -> None:
    (here / "order.yaml").symlink_to("elsewhere.yaml")
    assert init()[0] == 4
    assert not (here / "elsewhere.yaml").exists()


def test_a_folder_that_cannot_be_written_to_is_told(here: Path) -> None:
    (here / "file").write_text("")
    code, _, stderr = init("file/orders")
    assert code == 2
    assert "file/orders cannot be written to: " in stderr
    assert "Traceback" not in stderr


def test_what_was_written_goes_again_if_the_rest_cannot_be(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of it or nothing: else the next try would find its own files in the way."""
    whole = Path.open

    def full(self: Path, mode: str = "r", *args: object, **options: object) -> object:
        if mode == "x" and self.name == "README.md":
            raise OSError(28, "No space left on device")
        return whole(self, mode, *args, **options)  # type: ignore[call-overload]

    monkeypatch.setattr(Path, "open", full)
    code, _, stderr = init("orders")
    assert code == 2
    assert "No space left on device" in stderr
    assert list((here / "orders").iterdir()) == []


def test_json_has_files_and_commands(here: Path) -> None:
    found = json.loads(init("orders", "--json")[1])
    assert (found["folder"], set(found["files"])) == (str(here / "orders"), NAMES)
    assert found["commands"][0] == "cd orders"
    found = json.loads(CliRunner().invoke(cascade, ["init", "orders", "--json"]).stdout)
    assert found["error"]["type"] == "FilesInTheWay"


def test_the_cascade_file_has_no_fault_and_no_doubt(here: Path) -> None:
    init()
    _, warnings = read_with_warnings(read_file("order.yaml"))
    assert warnings == []
    assert tree(here)["order.yaml"].startswith("# yaml-language-server: $schema=./cascade.schema.json\n")


@pytest.mark.integration
def test_the_project_works_by_the_commands_that_are_printed(project: Project, here: Path) -> None:
    """In an empty folder: its tests pass, a real worker runs its cascade."""
    env = {key: value for key, value in project.environment().items() if not key.startswith(("PYTEST_", "CELERY_"))}
    printed = json.loads(init("orders", "--json")[1])["commands"]
    assert len(printed) == 5
    folder = here / "orders"
    worker, run, ls, tests = printed[1:]
    log = (folder / "worker.log").open("w")
    started = subprocess.Popen(
        [*worker.split(), "-l", "INFO", "-P", "threads"], cwd=folder, env=env, stdout=log, stderr=log
    )
    try:
        told = told_by(tests + " -p no:cacheprovider", folder, env)
        assert "2 passed" in told
        assert "warning" not in told
        wait_for(lambda: " ready." in (folder / "worker.log").read_text(), "the worker to be ready")
        assert told_by(run, folder, env) == '"parcel 7 with R7: on its way"\n'
        assert "completed" in told_by(ls, folder, env)
    finally:
        started.terminate()
        started.wait(30)
        log.close()


def told_by(command: str, folder: Path, env: dict[str, str]) -> str:
    words = command.split()
    done = subprocess.run(words, cwd=folder, env=env, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_printed_programs_are_those_of_this_environment(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not of another one that the shell would find."""
    beside = Path(sys.executable).parent
    monkeypatch.setenv("PATH", os.fspath(here))
    other = here / "celery"
    other.write_text("#!/bin/sh\n")
    other.chmod(0o755)
    worker = json.loads(init("orders", "--json")[1])["commands"][1]
    assert worker.startswith((str(beside), f"{sys.executable} -m celery"))
