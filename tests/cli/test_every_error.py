"""R150: every error class and every exit code, each met on purpose: what, which id, and a command that itself works."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable
from typing import Any

import pytest
from click.testing import Result

from celery_cascade import errors
from celery_cascade.cli import exits
from celery_cascade.cli.group import HELP
from celery_cascade.errors import CascadeError
from celery_cascade.persistence.rows import Checkpoint, StepKey
from cli.kit import Project, commands_in

Make = Callable[..., Project]


def classes() -> set[type[CascadeError]]:
    found, waiting = set(), [CascadeError]
    while waiting:
        one = waiting.pop()
        found |= {one} - {CascadeError}
        waiting += one.__subclasses__()
    return {one for one in found if one.__module__ == errors.__name__}


def name_of(value: object) -> str | None:
    return getattr(value, "__name__", None)


# -- what people do at the command line
def wrong_setting(make: Make) -> tuple[Project, Result]:
    project = make(cascade_heartbeat_timeout=1)
    return project, project.run("ls")


def wrong_options(make: Make) -> tuple[Project, Result]:
    project = make()
    return project, project.run("run", "order.yaml", "-i", "n=1", "--local", "--detach")


def unknown_id(make: Make) -> tuple[Project, Result]:
    project = make()
    return project, project.run("show", "nope-123")


def cancel_the_ended(make: Make) -> tuple[Project, Result]:
    project = make()
    done = project.ended()
    return project, project.run("cancel", done)


def resume_the_completed(make: Make) -> tuple[Project, Result]:
    project = make()
    done = project.ended()
    return project, project.run("resume", done)


def wrong_file(make: Make) -> tuple[Project, Result]:
    project = make()
    (project.folder / "wrong.yaml").write_text("cascade: c\nsteps:\n  - {id: a, taks: shop.add}\n")
    return project, project.run("run", "wrong.yaml")


def unknown_task(make: Make) -> tuple[Project, Result]:
    project = make()
    (project.folder / "other.yaml").write_text("cascade: c\nsteps:\n  - {id: a, task: shop.ad}\n")
    return project, project.run("run", "other.yaml")


def wrong_input(make: Make) -> tuple[Project, Result]:
    project = make()
    return project, project.run("run", "order.yaml", "-i", "n=seven")


def wrong_template(make: Make) -> tuple[Project, Result]:
    project = make()
    text = 'cascade: c\ninputs: {n: integer}\nsteps:\n  - {id: a, task: shop.echo, with: ["{{ inputs.n.x }}"]}\n'
    (project.folder / "t.yaml").write_text(text)
    return project, project.run("run", "t.yaml", "-i", "n=1")


def too_large(make: Make) -> tuple[Project, Result]:
    project = make(cascade_max_payload_bytes=20)
    return project, project.run("run", "order.yaml", "-i", "n=1", "-i", "word=" + "x" * 50)


def database_away(make: Make) -> tuple[Project, Result]:
    project = make(cascade_database_url="postgresql://nobody@127.0.0.1:1/none", cascade_database_patience=0.1)
    return project, project.run("ls")


def not_migrated(make: Make) -> tuple[Project, Result]:
    project = make(cascade_database_url="sqlite:///fresh.sqlite")
    return project, project.run("ls")


def damaged(make: Make) -> tuple[Project, Result]:
    project = make()
    project.ended()
    project.runtime.store.database.dispose()
    path = project.folder / ".cascade" / "store.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    path.write_bytes(b"not a database " * 500)
    return project, project.run("ls")


def output_is_damaged(make: Make) -> tuple[Project, Result]:
    project = make()
    done = project.ended()
    project.runtime.store.database.transaction(
        lambda conn: conn.exec_driver_sql("UPDATE session_states SET output = '{'")
    )
    return project, project.run("show", done)


def no_such_file(make: Make) -> tuple[Project, Result]:
    project = make()
    return project, project.run("run", "nowhere.yaml")


def failing(make: Make) -> tuple[Project, Result]:
    project = make()
    return project, project.run("run", "broken.yaml", "--local")


def too_slow(make: Make) -> tuple[Project, Result]:
    project = make()
    waits = project.started()
    return project, project.run("watch", waits, "--timeout", "50ms")


def suspended(make: Make) -> tuple[Project, Result]:
    project = make()
    waits = project.started()
    project.cascades.session(waits).suspend()
    return project, project.run("watch", waits)


#: What is met, with which exit code, and what the words must name.
AT_THE_COMMAND_LINE: list[tuple[Any, type[CascadeError] | None, int, str]] = [
    (wrong_setting, errors.ConfigError, 2, "cascade_heartbeat_timeout"),
    (wrong_options, errors.UsageError, 2, "--local"),
    (unknown_id, errors.SessionNotFound, 3, "nope-123"),
    (cancel_the_ended, errors.SessionConflict, 4, "ID"),
    (resume_the_completed, errors.NotResumable, 5, "ID"),
    (wrong_file, errors.DefinitionError, 6, r"wrong\.yaml:3:13: .*did you mean 'task'"),
    (unknown_task, errors.DefinitionError, 6, r"shop\.ad'.*did you mean 'shop\.add'"),
    (wrong_input, errors.InputError, 6, "'n'"),
    (wrong_template, errors.TemplateError, 6, r"steps\.a\.with"),
    (too_large, errors.PayloadTooLarge, 6, "inputs"),
    (database_away, errors.StoreUnavailable, 69, "127.0.0.1"),
    (not_migrated, errors.SchemaOutOfDate, 7, "fresh.sqlite"),
    (damaged, errors.StoreDamaged, 7, "store.sqlite"),
    (output_is_damaged, errors.StoreError, 7, "ID"),
    (no_such_file, errors.DefinitionNotFound, 3, "nowhere.yaml"),
    (failing, errors.SessionFailed, 1, "boom"),
    (too_slow, errors.SessionTimeout, 124, "ID"),
    (suspended, None, 8, "ID"),
]


@pytest.mark.parametrize(
    ("meet", "kind", "code", "named"), AT_THE_COMMAND_LINE, ids=lambda value: getattr(value, "__name__", None)
)
def test_every_error_says_what_which_and_a_command_that_works(
    make_project: Make, meet: Any, kind: type[CascadeError] | None, code: int, named: str
) -> None:
    """R150."""
    project, result = meet(make_project)
    words = result.stderr + result.stdout
    assert result.exit_code == code, words
    assert "Traceback" not in words
    pattern = r"[0-9a-f]{8}-[0-9a-f-]{27}" if named == "ID" else named
    assert re.search(pattern, words), words
    commands = commands_in(words)
    assert commands, f"it names no command to go on with:\n{words}"
    for command in commands:
        follows = command[0] in ("watch", "resume") and "--local" not in command
        patience = ["--timeout", "50ms"] if follows else []
        tried = project.run(*command, *patience)
        assert tried.exit_code != exits.USAGE or kind is errors.ConfigError, (command, tried.output)
        assert tried.exception is None or isinstance(tried.exception, SystemExit), (command, tried.exception)


def stale(project: Project) -> None:
    session = project.cascades.session(project.started())
    seen, other = session.context, project.cascades.session(session.id).context
    assert seen == other == {}
    other["n"] = 1
    seen["n"] = 2


def not_serializable(project: Project) -> None:
    steps = [{"id": "a", "task": "shop.echo", "with": ["{{ inputs.word }}"]}]
    project.cascades.start({"cascade": "c", "steps": steps}, {"word": object()})


def claim_lost(project: Project) -> None:
    key = StepKey(project.started(), "one")
    project.runtime.store.checkpoint(
        Checkpoint(key=key, token="mine", status="succeeded", output="1", phase="one", closed=1)
    )


#: What no command of ours can meet; Python code can.
IN_PYTHON: list[tuple[Any, type[CascadeError], str]] = [
    (stale, errors.StaleState, "session"),
    (not_serializable, errors.NotSerializable, "word"),
    (claim_lost, errors.ClaimLost, "session"),
]


@pytest.mark.parametrize(("meet", "kind", "named"), IN_PYTHON, ids=name_of)
def test_every_error_of_python_code_says_what_which_and_what_next(
    project: Project, meet: Any, kind: type[CascadeError], named: str
) -> None:
    """R150."""
    with pytest.raises(kind) as caught:
        meet(project)
    assert named in caught.value.message
    assert caught.value.hint


def test_no_error_class_and_no_exit_code_is_left_out() -> None:
    """R150: whoever adds one adds the way to meet it."""
    met = {kind for _, kind, *_ in AT_THE_COMMAND_LINE} | {kind for _, kind, _ in IN_PYTHON}
    assert classes() <= met
    # 130 is met in test_processes.py, by real signals.
    codes = {code for _, _, code, _ in AT_THE_COMMAND_LINE} | {
        exits.DONE,
        exits.INTERRUPTED,
    }
    told = {int(code) for code in re.findall(r"\b(\d+) [a-z]", HELP.partition("Exit codes:")[2])}
    assert {getattr(exits, name) for name in dir(exits) if name.isupper()} <= codes
    assert {one.exit_code for one in classes()} <= codes
    assert told == codes
