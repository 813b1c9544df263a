"""Forks processes that have everything imported already, for support.warm, until nobody asks any more. Linux only.

    python warm_server.py FD

FD is a socket: each request is JSON, with the files 0, 1, 2, and one that gets the exit status.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import os
import runpy
import signal
import socket
import struct
import sys
import types
from typing import Any

#: What a worker or a client of ours imports, and what it would not import unless asked to is not here.
PRELOADED = (
    "celery.apps.worker",
    "celery.bin.celery",
    "celery.concurrency.prefork",
    "celery.concurrency.solo",
    "celery.concurrency.thread",
    "celery.loaders.app",
    "celery.worker.consumer",
    "celery_cascade",
    "celery_cascade.embedded.transport",
    "celery_cascade.persistence.migrate",
    "celery_cascade.persistence.store",
    "kombu.transport.pyamqp",
    "kombu.transport.redis",
    "psycopg",
    "pymysql",
    "sqlalchemy.dialects.mysql.pymysql",
    "sqlalchemy.dialects.postgresql.psycopg",
    "sqlalchemy.dialects.sqlite",
)
LIMIT = 2**17  # bytes of a request
_PR_SET_PDEATHSIG = 1


def serve(requests: socket.socket) -> dict[str, Any] | None:
    """Fork for each request. Returns the request in the new process, None in the server at the end."""
    ends: dict[int, int] = {}  # process id -> the file that gets its exit status

    def reap(*_: Any) -> None:
        while ends:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            end = ends.pop(pid)
            os.write(end, struct.pack("i", status))
            os.close(end)

    signal.signal(signal.SIGCHLD, reap)
    while True:
        text, files, *_ = socket.recv_fds(requests, LIMIT, 4)
        if not text:
            return None
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})  # until its end has a place
        pid = os.fork()
        if not pid:
            for other in (*ends.values(), files.pop()):
                os.close(other)
            requests.close()
            _become(files)
            return json.loads(text)
        ends[pid] = files.pop()
        for file in files:
            os.close(file)
        requests.send(str(pid).encode())
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})


def _become(files: list[int]) -> None:
    """Be a process like one that was just begun: a session of its own, its own input and output, no handlers."""
    os.setsid()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})


def run(request: dict[str, Any]) -> None:
    """What `python -m MODULE ARGUMENTS`, `python -c CODE` or `python FILE ARGUMENTS` does."""
    os.environ.clear()
    os.environ.update(request["env"])
    os.chdir(request["cwd"])
    how, *arguments = request["arguments"]
    sys.path[0] = request["cwd"]
    if how == "-m":
        sys.argv = arguments
        runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)
    elif how == "-c":
        sys.argv = [how, *arguments[1:]]
        main = sys.modules["__main__"] = types.ModuleType("__main__")
        exec(compile(arguments[0], "<string>", "exec"), main.__dict__)
    else:
        sys.argv = [how, *arguments]
        runpy.run_path(how, run_name="__main__")


if __name__ == "__main__":
    for name in PRELOADED:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()
    request = serve(socket.socket(fileno=int(sys.argv[1])))
    if request is not None:
        run(request)
