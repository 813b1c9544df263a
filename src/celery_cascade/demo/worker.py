"""A real Celery worker in processes of its own, which can be killed as a machine is switched off."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from celery_cascade.demo.errors import DemoFailed
from celery_cascade.demo.waiting import Patience

ARGUMENTS = ("-A", "shop", "worker", "-P", "prefork", "-c", "2", "-l", "INFO")
SECONDS_TO_START = 20.0
SECONDS_TO_STOP = 20.0
LOG = "worker.log"

_READY = re.compile(rb"@\S+ ready\.")


class Worker:
    """One worker: a process group, started when this is made, gone when the `with` block is left.

    Args:
        folder: of the project; the log is written there too.
        name: the first half of its node name.
        patience: of whoever waits for it.
    """

    def __init__(self, folder: Path, name: str, patience: Patience) -> None:
        self.name = name
        self._patience = patience
        self._log = folder / LOG
        self._log_began = self._log.stat().st_size if self._log.exists() else 0
        self._swept = False
        self.ready_at = 0.0  #: when it said that it is ready, as `time.time()`
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "celery", *ARGUMENTS, "-n", f"{name}@%h"],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # a group of its own: Ctrl+C reaches the demo alone, SIGKILL the whole worker
            )

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    @property
    def pid(self) -> int:
        """Of its main process, and of its group."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """As `subprocess` has it: -9 after SIGKILL; None while it lives."""
        code = self._process.poll()
        if code is not None:
            self._end_the_rest()
        return code

    def log(self) -> str:
        """What this worker has written."""
        return self._written().decode("utf-8", "replace")

    def _written(self) -> bytes:
        with self._log.open("rb") as log:
            log.seek(self._log_began)
            return log.read()

    def must_live(self) -> None:
        """Raise DemoFailed if it has ended."""
        if self.exit_code is not None:
            raise DemoFailed(f"worker {self.name!r} ended by itself with exit code {self.exit_code}")

    def wait_until_ready(self) -> None:
        """Raise DemoFailed if it does not come up."""
        self._patience.wait_for(self._is_ready, f"worker {self.name!r} was ready", seconds=SECONDS_TO_START)
        self.ready_at = time.time()

    def _is_ready(self) -> bool | None:
        self.must_live()
        return True if _READY.search(self._written()) else None

    def kill(self) -> int | None:
        """SIGKILL to all its processes at once; returns the exit code."""
        if self.exit_code is None:
            self._kill_group()
            self._process.wait(SECONDS_TO_STOP)
        return self.exit_code

    def ask_to_stop(self) -> None:
        """SIGTERM, as an init system sends it: tasks that run end first, then the worker says goodbye."""
        self.must_live()
        self._process.terminate()

    def wait_until_stopped(self) -> int:
        """The exit code after `ask_to_stop`. Raises DemoFailed if it does not end."""
        what = f"worker {self.name!r} had stopped, as SIGTERM asked it to"
        return self._patience.wait_for(lambda: self.exit_code, what, seconds=SECONDS_TO_STOP)

    def _end_the_rest(self) -> None:
        """No child outlives its worker. Once only, and at once: later the group's number may be somebody else's."""
        if not self._swept:
            self._swept = True
            self._kill_group()

    def _kill_group(self) -> None:
        with suppress(ProcessLookupError, PermissionError):  # nobody is left; macOS says the second of ended processes
            os.killpg(self._process.pid, signal.SIGKILL)
