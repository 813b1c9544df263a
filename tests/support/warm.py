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

SOURCE = Path(__file__).parents[2] / "src"
COLD = sys.platform != "linux" or os.environ.get("CASCADE_TEST_COLD") == "1"
_LOCK = threading.Lock()


class Process:
    """One of them, with what `subprocess.Popen` has."""

    def __init__(self, pid: int, arguments: list[str], end: int) -> None:
        self.pid, self.args, self.returncode = pid, arguments, None
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
    arguments: list[str], *, cwd: Path, env: Mapping[str, str], out: IO[bytes], err: IO[bytes]
) -> Process | subprocess.Popen[bytes]:
    """Begin `python ARGUMENTS`, `-m MODULE …` or `-c CODE`, in a session of its own."""
    if COLD:
        return subprocess.Popen(
            [sys.executable, *arguments], cwd=cwd, env=env, stdout=out, stderr=err, start_new_session=True
        )
    mine, its = os.pipe()
    request = json.dumps({"arguments": arguments, "cwd": str(cwd), "env": dict(env)}).encode()
    with open(os.devnull, "rb") as nothing, _LOCK:
        server = _server()
        socket.send_fds(server, [request], [nothing.fileno(), out.fileno(), err.fileno(), its])
        os.close(its)
        pid = int(server.recv(20))
    return Process(pid, arguments, mine)


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
