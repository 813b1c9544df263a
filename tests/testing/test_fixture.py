"""The fixture in a project of its own: a real pytest run, as a user has it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src"
SHOP = """
from celery import Celery, shared_task
from celery_cascade import Cascades

app = Celery("fixshop", broker="amqp://127.0.0.1:1//")
app.conf.cascade_database_url = "postgresql://canary@127.0.0.1:1/canary"
cascades = Cascades(app)
PRICE = 1

@app.task
def charge(order_id):
    return order_id * PRICE

@app.task
def mail(order_id):
    with open("mails.txt", "a") as file:
        file.write("mail ")
    return len(open("mails.txt").read().split())

@shared_task(name="fixshop.shared")
def shared(order_id):
    return order_id
"""
ORDER = """
cascade: order
inputs: {order_id: integer}
steps:
  - {id: charge, task: fixshop.charge, with: {order_id: "{{ inputs.order_id }}"}}
"""
THREE_LINES = """
def test_order_survives_every_crash(crashtest):
    report = crashtest("order.yaml", {"order_id": 7})
    assert report.ok, report
"""
BAD = """
from pathlib import Path

def test_mail(crashtest):
    report = crashtest("mail.yaml", {"order_id": 7}, reset=lambda: Path("mails.txt").unlink(missing_ok=True))
    assert report.ok, report
"""
WITH_FIXTURES = """
import fixshop

def test_what_a_test_replaces_stays_replaced(crashtest, monkeypatch):
    monkeypatch.setattr(fixshop, "PRICE", 3)
    report = crashtest("order.yaml", {"order_id": 7}, effects=lambda: fixshop.PRICE, ignore=["nothing"])
    assert report.ok, report
    assert report.trials[0].same_effects

def test_an_app_may_be_given(crashtest):
    assert crashtest("order.yaml", {"order_id": 7}, app=fixshop.app, points="body", in_body=0).ok
"""
WITH_CELERY_S = """
def test_the_app_of_celery_s_own_fixture(crashtest, celery_app):
    import fixshop
    step = {"id": "a", "task": "fixshop.shared", "with": [1]}
    report = crashtest({"cascade": "c", "steps": [step]}, points="body", in_body=0)
    assert report.ok, report
"""
BY_PLUGIN = 'pytest_plugins = ["celery_cascade.testing.pytest_plugin"]\n'
BY_IMPORT = "from celery_cascade.testing import crashtest  # noqa: F401\n"


def pytest_run(folder: Path, test: str, *, conftest: str = BY_PLUGIN, **env: str) -> tuple[int, str]:
    (folder / "fixshop.py").write_text(SHOP)
    (folder / "order.yaml").write_text(ORDER)
    (folder / "mail.yaml").write_text(ORDER.replace("charge", "mail"))
    (folder / "conftest.py").write_text(conftest)
    (folder / "test_it.py").write_text(test)
    (folder / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n")
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("CELERY", "PYTEST"))}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:celery"],
        cwd=folder,
        env=inherited | {"PYTHONPATH": f"{SOURCE}{os.pathsep}{folder}"} | env,
        capture_output=True,
        text=True,
        timeout=120,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("conftest", [BY_PLUGIN, BY_IMPORT])
def test_three_lines_are_a_crash_test(tmp_path: Path, conftest: str) -> None:
    code, said = pytest_run(tmp_path, THREE_LINES, conftest=conftest, CELERY_APP="fixshop")
    assert code == 0, said
    assert "1 passed" in said


def test_a_failure_shows_the_table_and_the_verdict(tmp_path: Path) -> None:
    code, said = pytest_run(tmp_path, BAD, CELERY_APP="fixshop")
    assert code == 1, said
    assert "AssertionError: <CrashReport of order: Not well" in said
    assert "Captured crash test" in said
    assert "STEP" in said
    assert "mail, body_ended: output: 1 became 2" in said


def test_what_fixtures_replace_holds_and_the_current_app_is_found(tmp_path: Path) -> None:
    code, said = pytest_run(tmp_path, WITH_FIXTURES)
    assert code == 0, said


def test_the_app_of_celery_s_fixture_is_taken_where_the_test_uses_it(tmp_path: Path) -> None:
    conftest = BY_PLUGIN.replace("[", '["celery.contrib.pytest", ')
    code, said = pytest_run(tmp_path, WITH_CELERY_S, conftest=conftest)
    assert code == 0, said


def test_without_an_app_the_three_ways_to_name_one_are_told(tmp_path: Path) -> None:
    code, said = pytest_run(tmp_path, THREE_LINES)
    assert code == 1
    assert "CELERY_APP" in said
