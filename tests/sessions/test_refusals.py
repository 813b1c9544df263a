"""Bad input: the right error, what and which, the next step to take; and nothing written or half started."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from celery_cascade.errors import (
    CascadeError,
    ConfigError,
    DefinitionError,
    DefinitionNotFound,
    InputError,
    PayloadTooLarge,
    SchemaOutOfDate,
    StoreUnavailable,
    TemplateError,
    UsageError,
)
from sessions.kit import CHAIN, Kit, cascade

TYPED = """\
cascade: typed
inputs:
  order_id: integer
  email: {type: string, default: ""}
steps:
  - {id: a, task: echo, with: {id: "{{ inputs.order_id }}"}}
"""


def refused(kit: Kit, kind: type[CascadeError], words: str, start: Callable[[], Any]) -> CascadeError:
    """Both ways to start refuse alike, and no table has a row more."""
    before = kit.rows()
    with pytest.raises(CascadeError, match=words) as told:
        start()
    assert type(told.value) is kind, repr(told.value)
    assert kit.rows() == before
    assert kit.messages() == []
    return told.value


# -- inputs
@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        (None, r"needs the input 'order_id' \(integer\), and none was given"),
        ({"order_id": 1, "emial": "x"}, r"has no input 'emial'; did you mean 'email'\?"),
        ({"order_id": "seven"}, r"'order_id' must be integer, not string \('seven'\)"),
        ({"order_id": 1, "email": 3}, r"'email' must be string, not integer"),
        ([("order_id", 1)], r"the inputs of cascade 'typed' must be a mapping, not list"),
        ({7: 1}, r"the names of inputs must be text"),
    ],
)
@pytest.mark.parametrize("way", ["start", "run"])
def test_inputs_that_do_not_fit_are_refused(kit: Kit, inputs: Any, words: str, way: str) -> None:
    """R150: names the input, what was expected and what was given."""
    path = kit.file(TYPED)
    refused(kit, InputError, words, lambda: getattr(kit.cascades, way)(path, inputs))


def test_inputs_over_the_limit_are_refused(make_kit: Callable[..., Kit], sqlite_store: str) -> None:
    """R83: size and limit."""
    kit = make_kit(sqlite_store, cascade_max_payload_bytes=1000)
    words = r"inputs is 2,\d{3} bytes as JSON; the limit is 1,000"
    error = refused(kit, PayloadTooLarge, words, lambda: kit.start("a", inputs={"x": "y" * 2000}))
    assert "cascade_max_payload_bytes" in error.hint


def test_arguments_over_the_limit_are_refused_at_the_start(make_kit: Callable[..., Kit], sqlite_store: str) -> None:
    """R83: what a template makes of small inputs counts too, before anything is written."""
    kit = make_kit(sqlite_store, cascade_max_payload_bytes=1000)
    step = {"id": "a", "task": "echo", "with": ["{{ inputs.x }}", "{{ inputs.x }}"]}
    words = r"arguments of step 'a' is 1,\d{3} bytes as JSON; the limit is 1,000"
    refused(kit, PayloadTooLarge, words, lambda: kit.start(step, inputs={"x": "y" * 700}))


def test_arguments_over_the_limit_in_mid_run_fail_the_step_before_its_body(
    make_kit: Callable[..., Kit], sqlite_store: str
) -> None:
    """R83: the step before stays checkpointed; linear steps and joins alike."""
    kit = make_kit(sqlite_store, cascade_max_payload_bytes=1000)
    twice = ["{{ outputs.a }}", "{{ outputs.a }}"]
    for needs in (["a"], ["a", "other"]):
        session = kit.run(
            {"id": "a", "task": "echo", "needs": [], "with": ["y" * 700]},
            {"id": "other", "task": "add", "needs": []},
            {"id": "b", "task": "echo", "needs": needs, "with": twice},
        )
        assert session.status == "failed"
        error = session.to_dict()["error"]
        assert (error["step"], "PayloadTooLarge" in error["type"]) == ("b", True)
        assert "the limit is 1,000" in error["message"]
    assert kit.counts["b"] == 0


# -- definitions
def test_an_unknown_task_is_told_with_the_nearest_name(kit: Kit) -> None:
    """R150: step, task, app, the nearest right name, and how to see them all."""
    words = r"step 'b': task 'ehco' is not registered in app 'proj'; did you mean 'echo'\?"
    error = refused(kit, DefinitionError, words, lambda: kit.start("a", {"id": "b", "task": "ehco"}))
    assert "doctor --tasks" in error.hint


BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{new}: &{new} [{','.join(['*' + old] * 9)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)
BAD_FILES: dict[str, tuple[bytes, str]] = {
    "cyclic needs": (
        b"cascade: x\nsteps:\n- {id: a, task: add, needs: [b]}\n- {id: b, task: add, needs: [a]}\n",
        r"order\.yaml:\d+:\d+: .*steps wait for one another: a → b → a",
    ),
    "unknown need": (
        b"cascade: x\nsteps:\n- {id: first, task: add}\n- {id: b, task: add, needs: [frist]}\n",
        r"order\.yaml:4:\d+: .*'frist'.*did you mean 'first'",
    ),
    "a key twice": (
        b"cascade: x\nsteps:\n- {id: a, task: add, task: echo}\n",
        r"order\.yaml:3:\d+: .*'?task'?.*twice",
    ),
    "a step twice": (
        b"cascade: x\nsteps:\n- {id: a, task: add}\n- {id: a, task: add}\n",
        r"order\.yaml:4:\d+: step 'a' appears twice",
    ),
    "alias bomb": (b"cascade: x\n" + BOMB.encode() + b"steps: *i\n", r"order\.yaml:\d+:\d+: .*"),
    "a hostile step id": (b"cascade: x\nsteps:\n- {id: \"a'; --\", task: add}\n", r"order\.yaml:3:\d+: .*cannot be"),
    "a step id too long": (b"cascade: x\nsteps:\n- {id: " + b"a" * 51 + b", task: add}\n", "cannot be the id"),
    "not UTF-8": (b"cascade: x\ndescription: \xff\xfe\nsteps: [{id: a, task: add}]\n", r"order\.yaml.*UTF-8"),
    "a Python tag": (b"cascade: !!python/object:os.system x\nsteps: [{id: a, task: add}]\n", r"order\.yaml:1:\d+: "),
    "an unknown key": (
        b"cascade: x\nsteps:\n- {id: a, task: add, retyr: {}}\n", r"order\.yaml:3:\d+: .*retyr.*did you mean '?retry",
    ),
    "no YAML": (b"cascade: [x\nsteps: }", r"order\.yaml:\d+:\d+: "),
    "a tab": (b"cascade: x\nsteps:\n\t- {id: a}\n", r"order\.yaml:3:\d+: "),
    "nothing": (b"", r"order\.yaml"),
    "no steps": (b"cascade: x\nsteps: []\n", r"at least one step"),
    "a feature of later": (b"cascade: x\nsteps:\n- {id: a, task: add, map: \"{{ inputs.x }}\"}\n", "not yet supported"),
    "output of no step": (
        b"cascade: x\nsteps:\n- {id: load, task: add}\n- {id: b, task: add, with: [\"{{ outputs.laod }}\"]}\n",
        r"order\.yaml:4:\d+: .*laod.*did you mean 'load'",
    ),
    "NUL": (b"cascade: x\x00\nsteps: [{id: a, task: add}]\n", r"order\.yaml:1:\d+: "),
}  # fmt: skip


@pytest.mark.parametrize(("body", "words"), BAD_FILES.values(), ids=BAD_FILES.keys())
def test_a_file_that_cannot_be_run_is_refused(kit: Kit, body: bytes, words: str) -> None:
    """R147, R150: file, line, column, what, the nearest right word; quickly, whatever the file does."""
    path = kit.file(body)
    began = time.monotonic()
    refused(kit, DefinitionError, words, lambda: kit.cascades.start(path))
    assert time.monotonic() - began < 5


def test_a_file_of_ten_megabytes_is_refused_unread(kit: Kit, make_kit: Callable[..., Kit], sqlite_store: str) -> None:
    """R150: by its size; and if that is allowed, by the number of its steps."""
    line = "- {id: s%07d, task: add, needs: []}\n"
    body = "cascade: x\nsteps:\n" + "".join(line % n for n in range(10 * 1024 * 1024 // len(line % 0)))
    path = kit.file(body)
    error = refused(kit, DefinitionError, r"10,\d{3},\d{3} bytes, more than the limit of 1,048,576",
                    lambda: kit.cascades.start(path))  # fmt: skip
    assert "cascade_max_definition_bytes" in error.hint
    smaller = "cascade: x\nsteps:\n" + "".join(line % n for n in range(10_001))
    refused(kit, DefinitionError, "10,001 steps; at most 10,000", lambda: kit.cascades.start(kit.file(smaller)))


@pytest.mark.parametrize("name", ["missing.yaml", ".", "no/such/folder.yaml"])
def test_a_file_that_is_not_there_is_named(kit: Kit, name: str) -> None:
    """R150: the path, and why."""
    refused(kit, DefinitionNotFound, re.escape(name), lambda: kit.cascades.start(kit.folder / name))


@pytest.mark.parametrize("ends", ["\n", "\r\n"])
def test_line_ends_and_a_byte_order_mark_do_not_matter(kit: Kit, ends: str) -> None:
    """R2: they are read as what they mean, and stored as they are; a line number is that of the editor."""
    body = ("\ufeff" + CHAIN).replace("\n", ends).encode()
    assert kit.cascades.run(kit.file(body), {"n": 1}).output == 4
    wrong = body + f"  - {{id: a, task: add}}{ends}".encode()
    refused(kit, DefinitionError, r":7:\d+: step 'a' appears twice", lambda: kit.cascades.start(kit.file(wrong)))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (cascade({"id": "a", "task": "echo", "with": {"x": {1, 2}}}), r"steps\[0\]\.with\.x"),
        (cascade({"id": "a", "task": "echo", "with": {7: 1}}), r"7"),
        ({"cascade": "x"}, "needs steps"),
        ({"steps": [{"id": "a", "task": "add"}]}, "needs an id"),
        (cascade({"id": "a", "task": "echo", "with": {"x": object()}}), "object"),
    ],
)
def test_a_mapping_that_is_no_cascade_is_refused(kit: Kit, given: Any, words: str) -> None:
    """R4: what cannot round-trip is told by its path before anything runs."""
    refused(kit, DefinitionError, words, lambda: kit.cascades.start(given))


# -- templates
def test_a_template_that_fails_at_the_start_starts_nothing(kit: Kit) -> None:
    """R150: step, expression and what is missing."""
    step = {"id": "a", "task": "echo", "with": {"x": "{{ inputs.order.id }}"}}
    words = r"steps\.a\.with\.x: \{\{ inputs\.order\.id \}\}: "
    refused(kit, TemplateError, words, lambda: kit.start(step, inputs={"order": {}}))


def test_a_template_that_fails_in_mid_run_fails_its_step_alone(kit: Kit) -> None:
    """R84: what came before is checkpointed, the session is failed and can be resumed."""
    for needs in (["a"], ["a", "other"]):
        session = kit.run(
            {"id": "a", "task": "echo", "needs": [], "with": {"x": 1}},
            {"id": "other", "task": "add", "needs": []},
            {"id": "b", "task": "echo", "needs": needs, "with": {"y": "{{ outputs.a.y }}"}},
        )
        assert [step["status"] for step in session.steps] == ["succeeded", "succeeded", "failed"]
        error = session.to_dict()["error"]
        assert (error["step"], error["type"]) == ("b", "celery_cascade.errors.TemplateError")
        assert "{{ outputs.a.y }}" in error["message"]
        assert session.to_dict()["can_resume"] is True
        assert session.resume().status == "active"
        kit.deliver()
        assert session.status == "failed"
    assert kit.counts == {"a": 2, "other": 2}


def test_a_template_that_asks_for_too_much_is_stopped(kit: Kit) -> None:
    """R150: cost is bounded by the input's size, at the start and in mid-run."""
    huge = "{{ 'x' * 1000000000 }}"
    began = time.monotonic()
    refused(kit, TemplateError, r"steps\.a\.with\[0\]", lambda: kit.start({"id": "a", "task": "echo", "with": [huge]}))
    session = kit.run("a", {"id": "b", "task": "echo", "with": ["{{ 'x' * (outputs.a * 1000000000) }}"]})
    assert session.status == "failed"
    assert time.monotonic() - began < 5


def test_an_output_template_that_fails_is_told_and_can_be_tried_again(kit: Kit) -> None:
    """R150: every step is checkpointed, the session failed; a resume tries its end again, and runs no step."""
    given = cascade("a", output="{{ outputs.a.no }}")
    session = kit.cascades.run(given)
    assert session.status == "failed"
    assert "{{ outputs.a.no }}" in session.to_dict()["error"]["message"]
    session.resume()
    assert session.status == "failed"
    assert kit.ran == ["a/1"]


# -- outputs
@pytest.mark.parametrize(
    ("what", "words"),
    [("set", r"output of step 'b'\.deep\[1\]: set is not JSON"), ("nan", r"output of step 'b': nan is not JSON")],
)
def test_an_output_that_is_not_json_is_named(kit: Kit, what: str, words: str) -> None:
    """R84: step, path and type; not tried again, for it would be the same; the session can be resumed."""
    step = {"id": "b", "task": "gives", "with": [what], "retry": {"max_attempts": 5, "delay": "0s"}}
    session = kit.run("a", step)
    error = session.to_dict()["error"]
    assert re.fullmatch(words + r"\n.*", error["message"]), error
    assert (error["step"], error["type"]) == ("b", "celery_cascade.errors.NotSerializable")
    assert kit.counts == {"a": 1, "b": 1}
    assert session.to_dict()["can_resume"] is True


def test_an_output_over_the_limit_is_named_and_the_session_goes_on_once_it_is_raised(
    make_kit: Callable[..., Kit], sqlite_store: str
) -> None:
    """R83: step, size, limit; resumable, not lost."""
    kit = make_kit(sqlite_store, cascade_max_payload_bytes=1000)
    session = kit.run("a", {"id": "b", "task": "gives", "with": ["big"]}, {"id": "c", "task": "add"})
    error = session.to_dict()["error"]
    assert "output of step 'b' is 5,002 bytes as JSON; the limit is 1,000" in error["message"]
    later = make_kit(sqlite_store)
    later.cascades.session(session.id).resume()
    later.deliver()
    assert session.status == "completed"
    assert later.ran == ["b/2", "c/1"]


def test_an_output_whose_own_encoding_fails_is_no_crash(kit: Kit) -> None:
    """R84: a value may bring its own `__json__`; what that raises fails the step once."""

    class Odd:
        def __json__(self) -> Any:
            raise RuntimeError("not today")

    @kit.task("odd")
    def odd() -> Odd:
        return Odd()

    session = kit.run({"id": "a", "task": "odd"})
    assert kit.ran == ["a/1"]
    assert "RuntimeError: not today" in session.to_dict()["error"]["message"]


# -- options
@pytest.mark.parametrize(
    "session_id", ["", "a b", "a/b", "é", "x" * 37, "x' OR '1'='1", "a\n", "../x", "a\x00", 7, b"x", ["x"]]
)
def test_an_id_that_cannot_be_is_refused(kit: Kit, session_id: Any) -> None:
    """R30, D13: 1 to 36 of a closed set of characters, never cut."""
    refused(kit, UsageError, "1 to 36 characters", lambda: kit.start("a", session_id=session_id))


@pytest.mark.parametrize("expires_in", [0, -1, "1h", True, float("nan"), float("inf"), 1e18])
@pytest.mark.parametrize("way", ["start", "run"])
def test_an_expiry_that_cannot_be_is_refused(kit: Kit, expires_in: Any, way: str) -> None:
    """R45."""
    refused(kit, UsageError, "expires_in", lambda: getattr(kit.cascades, way)(cascade("a"), expires_in=expires_in))


def test_an_option_that_is_none_is_told_with_the_nearest(kit: Kit) -> None:
    """R150: run() and run_cascade() take what start() takes, and say so."""
    words = "no option 'sesion_id'; did you mean 'session_id'"
    refused(kit, UsageError, words, lambda: kit.cascades.run(cascade("a"), sesion_id="x"))


# -- the store
def test_a_server_that_does_not_answer_is_named_without_its_password(make_kit: Callable[..., Kit]) -> None:
    """D4: start() refuses: a durable run that silently is not durable is a lie. No secret is shown (R145)."""
    kit = make_kit("postgresql+psycopg://me:hunter2@127.0.0.1:1/none")
    for begin in (kit.start, kit.run):
        with pytest.raises(StoreUnavailable) as told:
            begin("a")
        assert "127.0.0.1:1" in str(told.value)
        assert "hunter2" not in str(told.value)
        assert "doctor" in told.value.hint
    assert kit.ran == []


def test_a_folder_that_cannot_be_made_is_named(make_kit: Callable[..., Kit], tmp_path: Path) -> None:
    """R122: the path and the remedy."""
    (tmp_path / "taken").write_text("a file")
    kit = make_kit(None, cascade_home=str(tmp_path / "taken" / "home"))
    with pytest.raises(StoreUnavailable, match=str(tmp_path / "taken" / "home")) as told:
        kit.run("a")
    assert "CELERY_CASCADE_HOME" in told.value.hint
    assert kit.ran == []


def test_a_store_file_that_cannot_be_opened_is_named(make_kit: Callable[..., Kit], tmp_path: Path) -> None:
    """R122."""
    (tmp_path / "home" / "store.sqlite").mkdir(parents=True)
    kit = make_kit(None)
    with pytest.raises(StoreUnavailable, match=re.escape(str(tmp_path / "home" / "store.sqlite"))):
        kit.run("a")


def test_a_database_without_our_tables_is_told_with_the_command(make_kit: Callable[..., Kit], tmp_path: Path) -> None:
    """D4, R15: a database that was named is never migrated by itself, unless `cascade_auto_migrate`."""
    url = f"sqlite:///{tmp_path / 'empty.sqlite'}"
    kit = make_kit(url)
    for begin in (kit.start, kit.run):
        with pytest.raises(SchemaOutOfDate, match="has no tables") as told:
            begin("a")
        assert "cascade migrate up" in told.value.hint
    assert kit.ran == []
    assert make_kit(url, cascade_auto_migrate=True).run("a").output == 1
    assert kit.run("a").output == 1  # the same process, after somebody has migrated


def test_a_table_that_is_dropped_under_a_running_app_is_told(kit: Kit) -> None:
    """R15, D4: exit 7 and no task runs."""
    kit.run("a")
    kit.ran.clear()
    kit.sql("DROP TABLE session_steps")
    with pytest.raises(SchemaOutOfDate, match="session_steps") as told:
        kit.run("a")
    assert told.value.exit_code == 7
    assert "migrate up" in told.value.hint
    assert kit.ran == []


def test_a_file_that_is_no_database_is_never_written_to(make_kit: Callable[..., Kit], tmp_path: Path) -> None:
    """D4, R121: told as damaged, byte for byte as it was."""
    (tmp_path / "home").mkdir()
    path = tmp_path / "home" / "store.sqlite"
    path.write_bytes(b"this is no database" * 1000)
    kit = make_kit(None)
    with pytest.raises(CascadeError, match="is damaged") as told:
        kit.run("a")
    assert told.value.exit_code == 7
    assert "doctor --fix" in told.value.hint
    assert path.read_bytes() == b"this is no database" * 1000


# -- settings
@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (
            {"cascade_databse_url": "sqlite://"},
            r"unknown setting cascade_databse_url; did you mean cascade_database_url\?",
        ),
        ({"cascade_auto_migrate": "yes"}, "cascade_auto_migrate is 'yes'; it must be True or False"),
        ({"cascade_heartbeat_interval": "5s"}, "cascade_heartbeat_interval is '5s'; it must be a number"),
        ({"cascade_heartbeat_interval": 0}, "it must be more than 0"),
        ({"cascade_max_crashes": 2.5}, "cascade_max_crashes is 2.5; it must be a whole number"),
        ({"cascade_max_crashes": float("inf")}, "it must be a whole number, 1 or more"),
        ({"cascade_heartbeat_interval": 10, "cascade_heartbeat_timeout": 15}, "must be at least twice"),
        ({"cascade_database_url": "nonsense"}, "cascade_database_url cannot be read as a URL"),
        ({"cascade_database_url": "oracle://x"}, "'oracle' is not one of sqlite, postgresql, mysql, mariadb"),
        ({"cascade_definitions": 7}, "cascade_definitions is 7; it must be a list"),
        ({"cascade_retention": "7 days"}, "cascade_retention is '7 days'"),
        (
            {"cascade_retention": {"complted": 7}},
            "unknown key 'complted' in cascade_retention; did you mean 'completed'",
        ),
        ({"cascade_retention": {"completed": "7 days"}}, "completed is '7 days'; it must be a timedelta"),
        ({"cascade_retention": {"failed": -1}}, "failed is "),
        ({"cascade_retention": {"keep_last": None}}, "keep_last is None; it must be a whole number"),
        ({"cascade_retention": {"batch": 0}}, "batch is 0; it must be a whole number, 1 or more"),
    ],
)
def test_a_setting_that_is_wrong_stops_the_start_with_its_cure(
    make_kit: Callable[..., Kit], sqlite_store: str, settings: dict[str, Any], words: str
) -> None:
    """R79: unknown keys with the nearest right one, wrong types, contradictions."""
    kit = make_kit(sqlite_store, **settings)
    for begin in (kit.start, kit.run):
        with pytest.raises(ConfigError, match=words):
            begin("a")
    assert kit.ran == []


def test_djangos_namespace_is_understood(make_kit: Callable[..., Kit], sqlite_store: str) -> None:
    """Settings are Celery settings: CELERY_CASCADE_MAX_CRASHES with `namespace="CELERY"`."""
    from types import SimpleNamespace

    from celery import Celery

    from celery_cascade import Cascades

    app = Celery("proj", set_as_current=False)
    app.config_from_object(
        SimpleNamespace(CELERY_CASCADE_MAX_CRASHES=3, CELERY_CASCADE_DATABASE_URL=sqlite_store), namespace="CELERY"
    )
    config = Cascades(app).runtime.config
    assert (config.max_crashes, config.database_url) == (3, sqlite_store)
