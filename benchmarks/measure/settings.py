"""What the runner tells its workers and clients, by environment; and the Celery settings that both apps share."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

BROKER = "CASCADE_BENCH_BROKER"
FOLDER = "CASCADE_BENCH_FOLDER"
COUNT = "CASCADE_BENCH_COUNT"


def folder() -> Path:
    """Where marks and counters are written."""
    return Path(os.environ[FOLDER])


def celery_settings(queue: str) -> dict[str, Any]:
    """The same for the bare chain and the cascade: late acks, and a prefetch of four messages for each child."""
    return {
        "broker_url": os.environ[BROKER],
        "result_backend": os.environ[BROKER],
        "task_default_queue": queue,
        "task_acks_late": True,
        "task_reject_on_worker_lost": True,
        "worker_prefetch_multiplier": 4,
        "broker_connection_retry_on_startup": True,
        "result_expires": 3600,
    }
