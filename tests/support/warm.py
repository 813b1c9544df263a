"""Python processes that begin with their imports done, which is most of what a worker's start takes.

They are forked from a server that has imported Celery and us and done nothing else, and run the same command as they
would from a shell. CASCADE_TEST_COLD=1, and any system but Linux, begins each from nothing.
"""

from __future__ import annotations

import atexit
import functools
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import IO

from support.processes import dying_with_us

SOURCE = Path(__file__).parents[2] / "src"
COLD = sys.platform != "linux" or os.environ.get("CASCADE_TEST_COLD") == "1"
_LOCK = threading.Lock()


class Process:
    """One of them, with what `subprocess.Popen` has."""

    def __init__(self, pid: int, arguments: list[str], end: int, stdin: IO[str] | None) -> None:
        self.pid, self.args, self.returncode, self.stdin = pid, arguments, None, stdin
        self._end = end

    def poll(self) -> int | None:
        """Its exit code, None while it runs."""
        return self._look(0)

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end. Raises TimeoutExpired."""
        code = self._look(timeout)
        if code is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        return code

    def kill(self) -> None:
        """SIGKILL, unless it has ended."""
        self._signal(signal.SIGKILL)

    def terminate(self) -> None:
        """SIGTERM, unless it has ended."""
        self._signal(signal.SIGTERM)

    def _signal(self, number: signal.Signals) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def _look(self, timeout: float | None) -> int | None:
        if self.returncode is None and select.select([self._end], [], [], timeout)[0]:
            said = os.read(self._end, 4)
            os.close(self._end)
            self.returncode = os.waitstatus_to_exitcode(struct.unpack("i", said)[0])
        return self.returncode

    def __del__(self) -> None:
        if self.returncode is None:
            os.close(self._end)


def start(
    arguments: list[str], *, cwd: Path, env: Mapping[str, str], out: IO[bytes], err: IO[bytes], stdin: bool = False
) -> Process | subprocess.Popen[str]:
    """Begin `python ARGUMENTS`, `-m MODULE …`, `-c CODE` or `FILE …`, in a session of its own that ends with us.

    Args:
        stdin: whether it is told something, through `stdin`; else it has none.
    """
    if COLD:
        return subprocess.Popen(
            [sys.executable, *arguments], cwd=cwd, env=env, stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
            stdout=out, stderr=err, text=True, start_new_session=True, preexec_fn=dying_with_us(),
        )  # fmt: skip
    its_end, end = os.pipe()
    hears, tells = os.pipe() if stdin else (os.open(os.devnull, os.O_RDONLY), None)
    request = json.dumps({"arguments": arguments, "cwd": str(cwd), "env": dict(env)}).encode()
    with _LOCK:
        server = _server()
        socket.send_fds(server, [request], [hears, out.fileno(), err.fileno(), end])
        pid = int(server.recv(20))
    os.close(hears)
    os.close(end)
    return Process(pid, arguments, its_end, None if tells is None else os.fdopen(tells, "w"))


def run(arguments: list[str], *, cwd: Path, env: Mapping[str, str], timeout: float) -> subprocess.CompletedProcess[str]:
    """The same, waited for, with what it said. Raises TimeoutExpired, and it is killed."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        process = start(arguments, cwd=cwd, env=env, out=out, err=err)
        try:
            code = process.wait(timeout)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise
        said = [(file.seek(0), file.read().decode())[1] for file in (out, err)]
    return subprocess.CompletedProcess(arguments, code, *said)


@functools.cache
def _server() -> socket.socket:
    """This process's own."""
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    code = Path(__file__).with_name("warm_server.py")
    server = subprocess.Popen(
        [sys.executable, str(code), str(its.fileno())],
        pass_fds=[its.fileno()],
        env=environment(),
        stdin=subprocess.DEVNULL,
    )
    its.close()
    atexit.register(_end, ours, server)
    return ours


def _end(ours: socket.socket, server: subprocess.Popen[bytes]) -> None:
    """It ends when nobody can ask any more, and what it has forked with it."""
    ours.close()
    server.wait(10)


def environment() -> dict[str, str]:
    """Of a user's process: our package from the checkout, nothing of pytest's."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("PYTEST_", "CELERY_"))}
    paths = [str(SOURCE), kept.get("PYTHONPATH", "")]
    return kept | {"PYTHONPATH": os.pathsep.join(path for path in paths if path), "PYTHONUNBUFFERED": "1"}
