"""A little shop on Celery: seven plain tasks that write files beside this module.

Two lines give them durable sessions: `embedded()`, a broker that needs no server, and `Cascades(app)`.
`charge` and `pick` hand their idempotency key on, so that a second attempt does nothing twice.
"""

import csv
import json
import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from celery import Celery

from celery_cascade import Cascades, current_session
from celery_cascade.embedded import embedded

app = Celery("shop", **embedded())
cascades = Cascades(app)

HERE = Path(__file__).parent
SECONDS_PER_ARTICLE = 0.5

#: article -> price in cents, weight in grams
SHELF = {
    "teapot": (3490, 820),
    "cup": (890, 180),
    "saucer": (450, 150),
    "strainer": (690, 40),
    "tray": (1990, 610),
    "tea": (1250, 110),
    "honey": (760, 340),
    "biscuits": (520, 260),
}


@app.task
def reserve(order_id: int, articles: list[str]) -> dict[str, object]:
    """Set the articles aside."""
    note_run("reserve")
    time.sleep(0.3)
    cents = sum(SHELF[article][0] for article in articles)
    grams = sum(SHELF[article][1] for article in articles)
    write(order_id, "stock.json", json.dumps({"reserved": articles}, indent=2) + "\n")
    return {"articles": articles, "cents": cents, "grams": grams}


@app.task
def charge(order_id: int, cents: int) -> str:
    """Charge the card and return the receipt. The bank takes each key once, however often it is asked."""
    note_run("charge")
    time.sleep(0.6)
    ledger, key = HERE / "ledger.csv", idempotency_key(f"charge-{order_id}")
    if not any(row["key"] == key for row in rows(ledger)):
        append(ledger, key=key, order=order_id, cents=cents, pid=os.getpid())
    return f"R-{order_id:05d}"


@app.task
def pick(order_id: int, articles: list[str]) -> int:
    """Take the articles off their shelves, one after the other; what is on the list already stays picked."""
    note_run("pick")
    picking, key = folder_of(order_id) / "picking.csv", idempotency_key(f"pick-{order_id}")
    picked = {row["article"] for row in rows(picking) if row["key"] == key}
    for article in articles:
        if article not in picked:
            time.sleep(SECONDS_PER_ARTICLE)
            append(picking, key=key, article=article, pid=os.getpid())
    return len(articles)


@app.task
def label(order_id: int, grams: int) -> str:
    """Draw the label of the parcel."""
    note_run("label")
    time.sleep(0.5)
    bars = "".join(f'<rect x="{20 + 12 * n}" y="90" width="{2 + order_id * n % 7}" height="50"/>' for n in range(20))
    text = f'<text x="20" y="40">Order {order_id}</text><text x="20" y="70">{grams / 1000:.2f} kg</text>'
    svg = f'<svg xmlns="http://www.w3.org/2000/svg" width="280" height="160">{text}{bars}</svg>'
    return write(order_id, "label.svg", svg + "\n")


@app.task
def pack(order_id: int, picked: int, label: str) -> str:
    """Put the articles into a parcel and the label on it."""
    note_run("pack")
    time.sleep(0.3)
    return write(order_id, "parcel.json", json.dumps({"articles": picked, "label": label}, indent=2) + "\n")


@app.task
def invoice(order_id: int, receipt: str, cents: int) -> str:
    """Write the invoice."""
    note_run("invoice")
    time.sleep(0.2)
    return write(order_id, "invoice.txt", f"Order {order_id}\n{cents / 100:.2f} EUR, paid, receipt {receipt}\n")


@app.task
def notify(order_id: int, email: str, invoice: str) -> str:
    """Leave the mail to the customer in the outbox."""
    note_run("notify")
    time.sleep(0.1)
    return write(order_id, "mail.eml", f"To: {email}\nSubject: Order {order_id} is on its way\n\nSee {invoice}.\n")


def idempotency_key(otherwise: str) -> str:
    """The key that every attempt of the running step bears; `otherwise` where the task runs outside a session."""
    session = current_session()
    return session.idempotency_key if session else otherwise


def note_run(task: str) -> None:
    """One line for each time that a task's code is entered: the demo counts these, not what a database says."""
    session, now = current_session(), datetime.now(UTC).isoformat()
    who = {"session": session.id, "step": session.step, "attempt": session.attempt} if session else {"step": task}
    append(HERE / "runs.csv", **{"moment": now, "session": "", "attempt": 1, "pid": os.getpid()} | who)


def folder_of(order_id: int) -> Path:
    """Where the papers of an order are."""
    folder = HERE / "orders" / str(order_id)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def write(order_id: int, name: str, text: str) -> str:
    """Write a paper of an order; returns its path within the shop."""
    path = folder_of(order_id) / name
    path.write_text(text, encoding="utf-8")
    return path.relative_to(HERE).as_posix()


def append(path: Path, **row: object) -> None:
    """Add a line, whole or not at all, and the heading if it is the first."""
    with path.open("a", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, row)
        if file.tell() == 0:
            writer.writeheader()
        writer.writerow(row)


def rows(path: Path) -> Iterator[dict[str, str]]:
    """The lines of a file, none if it is not there yet."""
    if path.exists():
        with path.open(encoding="utf-8", newline="") as file:
            yield from csv.DictReader(file)
