"""What a test may leave behind in its process and no other test should meet."""

from __future__ import annotations

import sys


def end_local_workers() -> None:
    """Stop the heartbeats of whoever became a worker for the rest of this process.

    A thread that uses SQLite while a later test forks leaves its locks taken in the child, which then hangs.
    """
    module = sys.modules.get("celery_cascade.tasks.local_worker")
    for runtime, life in list(module._LIVES.items()) if module is not None else ():
        module._LIVES.pop(runtime, None)
        runtime.enter_worker(None)
        life._stop.set()
        life._thread.join(timeout=5)
