"""A Celery app whose work survives: three tasks, run in the order that order.yaml says."""

from celery import Celery

from celery_cascade import Cascades, current_session
from celery_cascade.embedded import embedded

app = Celery("proj", **embedded())  # a broker without a server; later: Celery("proj", broker="redis://…")
cascades = Cascades(app)  # sessions are kept in .cascade/ beside this file, until cascade_database_url names a server


@app.task
def charge(order_id: int, cents: int) -> dict[str, object]:
    """Take the money. A step whose worker dies runs again, with the same key: hand it on, and nobody pays twice."""
    session = current_session()
    key = session.idempotency_key if session else f"order-{order_id}"
    return {"receipt": f"R{order_id}", "cents": cents, "key": key}


@app.task
def pack(order_id: int) -> str:
    """Put it into a box."""
    return f"parcel {order_id}"


@app.task
def ship(parcel: str, receipt: str) -> str:
    """Give it to the courier."""
    return f"{parcel} with {receipt}: on its way"
