"""Orders whose every step is crashed, in the middle too. One of them does not stand that: which one, and where?

cd examples/crash_test
celery -A orders cascade crashtest order.yaml -i order_id=7 --effects orders:book --reset orders:clear
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

from celery import Celery

from celery_cascade import Cascades, current_session
from celery_cascade.embedded import embedded

app = Celery("orders", **embedded())
cascades = Cascades(app)

#: What the world outside remembers: payments by their key, mails in the order in which they came.
BOOK = Path(os.environ.get("ORDERS_BOOK", Path(tempfile.gettempdir(), f"orders-{os.getuid()}.json")))


def book() -> dict:
    """For --effects: what the steps have done outside."""
    return json.loads(BOOK.read_text()) if BOOK.exists() else {"payments": {}, "mails": []}


def clear() -> None:
    """For --reset: before each run."""
    BOOK.unlink(missing_ok=True)


def save(whole: dict) -> None:
    BOOK.write_text(json.dumps(whole))


@app.task
def charge(order_id: int) -> str:
    """A payment provider that knows idempotency keys takes the money once, however often it is asked."""
    whole = book()
    whole["payments"][current_session().idempotency_key] = order_id
    save(whole)
    return f"R{order_id}"


@app.task
def pack(receipt: str) -> str:
    return f"parcel with {receipt}"


@app.task
def mail(parcel: str) -> str:
    """A mail server knows no keys: who asks twice sends twice."""
    whole = book()
    whole["mails"].append(parcel)
    save(whole)
    return "sent"
