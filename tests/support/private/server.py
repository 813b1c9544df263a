"""What the private servers have in common: a process that is started, stopped, killed, and gone with the test."""

from __future__ import annotations

import getpass
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import ClassVar, Self

import psutil

from support.processes import dying_with_us

TO_START, TO_STOP = 60.0, 60.0  # seconds; both take a few on a busy machine


class Missing(Exception):
    """The programs of a server are not installed."""


class Server:
    """One server. `with` starts it, and removes it with its data at the end.

    The folder is not pytest's: another user, whom a server may run as, could not enter that.
    """

    title: ClassVar[str]
    user: ClassVar[str | None] = None  #: whom it has to run as where we are root; None = ourselves
    to_stop: ClassVar[signal.Signals] = signal.SIGTERM
    if_we_die: ClassVar[signal.Signals] = signal.SIGKILL

    def __init__(self) -> None:
        self.find_programs()
        self.port = free_port()
        self.starts = 0
        self.process: subprocess.Popen[bytes] | None = None

    # -- what each kind says
    def find_programs(self) -> None:
        """Raises Missing."""
        raise NotImplementedError

    def prepare(self) -> None:
        """Make what the first start needs, in `folder`."""

    def command(self) -> list[str]:
        raise NotImplementedError

    def environment(self) -> Mapping[str, str]:
        return os.environ

    def ping(self) -> None:
        """Raises unless it answers."""
        raise NotImplementedError

    @property
    def url(self) -> str:
        raise NotImplementedError

    # -- what a test does
    def __enter__(self) -> Self:
        self.folder = Path(tempfile.mkdtemp(prefix=f"cascade-{self.title.lower()}-"))
        if self._run_as() is not None:
            shutil.chown(self.folder, self.user)
        try:
            self.prepare()
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.crash()
        shutil.rmtree(self.folder, ignore_errors=True)

    def launch(self) -> None:
        """Start it without waiting until it answers."""
        assert not self.runs, f"{self.title} runs already"
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                self.command(),
                cwd=self.folder,
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                user=self._run_as(),
                group=None if self._run_as() is None else pwd.getpwnam(self.user or "").pw_gid,
                start_new_session=True,
                preexec_fn=dying_with_us(self.if_we_die),
            )
        self.starts += 1

    def answers(self) -> bool:
        """Raises RuntimeError if it has ended instead."""
        if not self.runs:
            raise RuntimeError(f"{self.title} ended at once:\n{self.log()[-2000:]}")
        try:
            self.ping()
        except Exception:  # noqa: BLE001  each driver has its own
            return False
        return True

    def start(self) -> None:
        """Start it; returns when it answers."""
        self.launch()
        give_up_at = time.monotonic() + TO_START
        while not self.answers():
            if time.monotonic() > give_up_at:
                raise RuntimeError(f"{self.title} does not answer after {TO_START:g} s:\n{self.log()[-2000:]}")
            time.sleep(0.05)

    def stop(self) -> None:
        """As its administrator would."""
        if self.process is not None and self.runs:
            self.process.send_signal(self.to_stop)
            self.process.wait(TO_STOP)

    def crash(self) -> None:
        """kill -9 of all its processes."""
        if self.process is None or not self.runs:
            return
        with suppress(psutil.NoSuchProcess):
            main = psutil.Process(self.process.pid)
            for process in [main, *main.children(recursive=True)]:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
        self.process.wait(TO_STOP)

    def restart(self) -> None:
        self.stop()
        self.start()

    @property
    def runs(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def log(self) -> str:
        path = self.folder / "log"
        return path.read_text(errors="replace") if path.exists() else ""

    # -- how
    def do(self, *command: str) -> None:
        """Run a program of the server's to its end, as the user that the server runs as."""
        done = subprocess.run(
            command,
            cwd=self.folder,
            user=self._run_as(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TO_START * 2,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)} failed:\n{done.stdout[-1000:]}{done.stderr[-1000:]}")

    def _run_as(self) -> str | None:
        return self.user if os.geteuid() == 0 else None


def me() -> str:
    return getpass.getuser()


def program(*names: str, folders: tuple[str, ...] = (), packages: str) -> str:
    """The path of the first of these programs that there is. Raises Missing."""
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin", *folders])
    for name in names:
        if found := shutil.which(name, path=path):
            return found
    raise Missing(f"{names[-1]} is not installed; {packages}")


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
    return port
