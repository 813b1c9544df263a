"""The tasks of the story: an order that can be held up in the middle, and a chat that remembers."""

from __future__ import annotations

import os
import time
from pathlib import Path

from celery import Celery

from celery_cascade import Cascades, current_session
from celery_cascade.embedded import embedded

app = Celery("shop", **embedded())
if url := os.environ.get("SHOP_DATABASE_URL"):
    app.conf.cascade_database_url = url
cascades = Cascades(app)

#: Beside this file: what the tasks have done, and the gate at which `pack` waits.
HERE = Path(__file__).parent


@app.task
def price(amount: int) -> int:
    note("price")
    current_session().context["priced"] = amount
    return amount * 10


@app.task
def pack(amount: int) -> str:
    note("pack")
    (HERE / "packing").touch()
    while not (HERE / "go").exists():
        time.sleep(0.02)
    return f"a parcel of {amount}"


@app.task
def compute(left: int, right: int, operation: str) -> int:
    note("compute")
    return left * right if operation == "multiply" else left + right


@app.task
def answer(message: str) -> str:
    session = current_session()
    before = [said["content"] for said in session.conversation_history if said["role"] == "user"]
    session.say("user", message)
    text = f"You said {message!r}" + (f", and before that {before[-1]!r}." if before else ".")
    session.say("assistant", text)
    return text


def note(step: str) -> None:
    with (HERE / "done.log").open("a", encoding="utf-8") as log:
        log.write(f"{current_session().id} {step}\n")
