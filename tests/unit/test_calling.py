"""Commands in hints are the ones that work where they are read."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from weakref import WeakKeyDictionary

import pytest
from celery import Celery

import celery_cascade
from celery_cascade import calling
from celery_cascade.cli.group import VERBS
from celery_cascade.errors import SchemaOutOfDate, SessionTimeout

PACKAGE = Path(celery_cascade.__file__).parent


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No app of another test is known."""
    monkeypatch.setattr(calling, "_APPS", WeakKeyDictionary())
    monkeypatch.delenv("CELERY_APP", raising=False)


def module(monkeypatch: pytest.MonkeyPatch, name: str, **attributes: object) -> None:
    made = ModuleType(name)
    vars(made).update(attributes)
    monkeypatch.setitem(sys.modules, name, made)


@pytest.mark.parametrize(
    ("main", "modules", "words"),
    [
        ("shop_x", {"shop_x": "app"}, "celery -A shop_x cascade"),
        ("other", {"shop_x": "app"}, "celery -A shop_x cascade"),
        ("other", {"shop_x": "celery"}, "celery -A shop_x cascade"),
        ("other", {"shop_x": "queue"}, "celery -A shop_x:queue cascade"),
        ("shop_x", {"shop_x": "celery_app", "shop_x.celery": "app", "shop_x.tasks": "app"}, "celery -A shop_x cascade"),
        ("other", {"shop_x.tasks": "app", "worker_x": "app"}, "celery -A worker_x cascade"),
        ("named_only", {}, "celery -A named_only cascade"),
        (None, {}, calling.UNKNOWN),
    ],
)
def test_the_app_is_named_as_celery_finds_it(
    monkeypatch: pytest.MonkeyPatch, main: str | None, modules: dict[str, str], words: str
) -> None:
    app = Celery(main, set_as_current=False)
    for name, attribute in modules.items():
        module(monkeypatch, name, **{attribute: app})
    calling.register(app)
    assert calling.words() == words
    assert calling.command("ls") == f"{words} ls"


def test_with_several_apps_nobody_is_sent_to_the_wrong_one() -> None:
    apps = [Celery("one", set_as_current=False), Celery("two", set_as_current=False)]
    for app in apps:
        calling.register(app)
    assert calling.words() == calling.UNKNOWN


def test_an_error_in_python_bears_a_command_that_can_be_pasted(monkeypatch: pytest.MonkeyPatch) -> None:
    """R150."""
    app = Celery("shop_x", set_as_current=False)
    calling.register(app)
    late = SessionTimeout("it takes long", hint="Watch it with: cascade watch s1\nLook: cascade show s1")
    assert late.hint == "Watch it with: celery -A shop_x cascade watch s1\nLook: celery -A shop_x cascade show s1"
    assert str(late) == f"it takes long\n{late.hint}"
    assert SchemaOutOfDate("x", hint="Run: celery -A <app> cascade migrate up").hint.endswith(
        "-A shop_x cascade migrate up"
    )


def test_what_is_spelled_once_is_spelled_anew_for_another_program() -> None:
    """The command line writes what Python wrote as it was itself called."""
    app = Celery("shop_x", set_as_current=False)
    calling.register(app)
    text = calling.spelled("List them with: cascade ls")
    assert calling.spelled(text, "cascade -A shop_x") == "List them with: cascade -A shop_x ls"
    assert calling.spelled("a cascade was started: it runs") == "a cascade was started: it runs"


def texts() -> Iterator[tuple[str, str]]:
    """Every text of the package that a person may read, docstrings and help left out; values in it are `{}`."""
    for path in PACKAGE.rglob("*.py"):
        if path.parent.name == "config" or path.name == "format_schema.py":  # the words of pages
            continue
        tree = ast.parse(path.read_text())
        inside = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in ast.walk(node)}
        for node in ast.walk(tree):
            if isinstance(node, ast.JoinedStr):
                parts = [part.value if isinstance(part, ast.Constant) else "{}" for part in node.values]
                yield path.name, "".join(str(part) for part in parts)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inside:
                yield path.name, node.value


def test_no_command_of_a_hint_escapes() -> None:
    """R150: wherever a text names a command of ours, it is one that is spelled for the reader."""
    named = re.compile(rf"cascade (?:{'|'.join(VERBS)})(?: (?:up|\{{\}}|--[a-z]+)|$|\n|;)")
    found = 0
    for file, text in texts():
        if not named.search(text) or text.count("\n") > 4 or file in ("group.py",):
            continue
        found += 1
        spelled = calling.spelled(text, "PROGRAM")
        left = named.search(spelled)
        example = re.search(r"(?:celery|\{\}) -A (proj|your_module) |^id=\$\(|^cascade (validate|demo)", spelled)
        assert left is None or example, (file, text)
    assert found > 20
