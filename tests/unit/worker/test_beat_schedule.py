from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from celery import signals as celery_signals
from celery.beat import PersistentScheduler, Scheduler, Service
from celery.schedules import crontab

from celery_cascade import beat_schedule

ROOT = Path(__file__).parents[3]
OURS = {"celery_cascade.resume", "celery_cascade.expire", "celery_cascade.prune"}
MINE = {"task": "shop.mine", "schedule": 99.0}


class LastMoment(Service):
    """Celery's Service up to the moment of `beat_init`; the scheduler is made before that."""

    def start(self, embedded_process: bool = False) -> None:
        _ = self.scheduler.max_interval
        celery_signals.beat_init.send(sender=self)


def make_app(**settings: Any) -> Celery:
    app = Celery("beaten", set_as_current=False, broker="memory://")
    app.conf.update(settings)
    beat_schedule.connect(app)
    return app


def begin(app: Celery, tmp_path: Path, scheduler: Any = Scheduler, *, imports: bool = True) -> Any:
    """What `celery beat` does, in its order; the scheduler's entries."""
    if imports:
        app.loader.init_worker()
    service = LastMoment(app, scheduler_cls=scheduler, schedule_filename=str(tmp_path / "schedule"))
    service.start()
    entries = dict(service.scheduler.schedule)
    service.sync()
    return entries


def test_the_defaults_are_a_plain_dict_of_entries_that_expire_before_the_next_tick():
    assert set(beat_schedule.beat_schedule) == OURS
    for key, entry in beat_schedule.beat_schedule.items():
        assert entry["task"] == key
        interval = entry["schedule"] if isinstance(entry["schedule"], float) else 86400
        assert 0 < entry["options"]["expires"] < interval
    assert beat_schedule.beat_schedule["celery_cascade.prune"]["schedule"] == crontab(minute="30", hour="3")


def test_without_a_retention_nothing_is_pruned():
    assert set(beat_schedule.cascade_beat_schedule(make_app(cascade_retention=None))) == OURS - {"celery_cascade.prune"}


@pytest.mark.parametrize("scheduler", [Scheduler, PersistentScheduler])
def test_the_entries_are_there_and_the_users_stay(tmp_path, scheduler):
    """R154: whatever the scheduler, ours join and never replace a key of the user's."""
    app = make_app(beat_schedule={"mine": MINE, "celery_cascade.resume": MINE})
    entries = begin(app, tmp_path, scheduler)
    assert set(entries) >= OURS | {"mine"}
    assert entries["celery_cascade.resume"].task == "shop.mine"
    assert entries["celery_cascade.expire"].options == {"expires": 55, "ignore_result": True}


@pytest.mark.parametrize("scheduler", [Scheduler, PersistentScheduler])
def test_settings_that_come_after_all_else_change_nothing_about_it(tmp_path, scheduler):
    """R154: whatever the order of configuration."""
    app = make_app()
    app.loader.init_worker()
    app.conf.beat_schedule = {"mine": MINE}  # replaces what was merged
    assert set(begin(app, tmp_path, scheduler, imports=False)) >= OURS | {"mine"}


def test_settings_from_an_object_that_comes_last(tmp_path):
    app = make_app()
    app.config_from_object({"beat_schedule": {"mine": MINE}, "broker_url": "memory://"})
    assert set(begin(app, tmp_path)) >= OURS | {"mine"}


def test_periodic_tasks_that_are_added_by_call(tmp_path):
    app = make_app()

    @app.task(name="shop.tick", shared=False)
    def tick() -> None: ...

    app.add_periodic_task(5.0, tick.s(), name="ticking")
    assert set(begin(app, tmp_path)) >= OURS | {"ticking"}


def test_the_default_scheduler_remembers_when_it_last_ran_ours(tmp_path):
    def last_run() -> Any:
        return begin(make_app(), tmp_path, PersistentScheduler)["celery_cascade.prune"].last_run_at

    first = last_run()
    assert last_run() == first


def test_an_app_without_the_plugin_gets_nothing(tmp_path):
    make_app()
    assert not OURS & set(begin(Celery("plain", set_as_current=False, broker="memory://"), tmp_path))


def test_a_wrong_setting_stops_beat_and_says_so(tmp_path, caplog):
    with caplog.at_level(logging.CRITICAL, "celery_cascade"), pytest.raises(SystemExit) as stopped:
        begin(make_app(cascade_retention={"complete": 3}), tmp_path)
    assert stopped.value.code == 2
    assert "'completed'" in caplog.text


def test_the_script_in_the_root_prints_the_entries():
    """R154: `python beat_schedule.py`."""
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(
        [sys.executable, "beat_schedule.py"], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    assert [line.split(":")[0] for line in done.stdout.splitlines()] == list(beat_schedule.beat_schedule)


PROJECT = """
from celery import Celery
from celery_cascade.app import Cascades
app = Celery("proj", broker="memory://")
Cascades(app)
app.conf.beat_schedule = {"mine": {"task": "celery_cascade.expire", "schedule": 99.0}}
"""


def test_celery_beat_logs_them(tmp_path):
    """R154: `celery beat` says what it runs."""
    (tmp_path / "proj.py").write_text(PROJECT)
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, "-m", "celery", "-A", "proj", "beat", "-l", "INFO", "-s", str(tmp_path / "schedule")]
    log = tmp_path / "log"
    with log.open("w") as file:
        beat = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=file, stderr=file)
    try:
        give_up_at = time.monotonic() + 30
        while log.read_text().count("[cascade] beat runs") < len(OURS) and time.monotonic() < give_up_at:
            time.sleep(0.05)
    finally:
        beat.send_signal(signal.SIGTERM)
        beat.wait(30)
    found = [line.partition("beat runs ")[2] for line in log.read_text().splitlines() if "beat runs" in line]
    assert [line.split(":")[0] for line in found] == list(beat_schedule.beat_schedule), log.read_text()
    assert found[0] == "celery_cascade.resume: every 30 s, given up after 25 s in the queue"
