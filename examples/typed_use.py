"""A shop that takes orders, as a program with types: `python examples/typed_use.py` runs it, without a server.

`scripts/lint` checks it with `mypy --strict` against the installed package; `assert_type` says what a reader of the
types may rely on.
"""

import tempfile
from pathlib import Path
from typing import Any, assert_type

from celery import Celery
from sqlalchemy import select

from celery_cascade import Cascades, Session, SessionStatus, current_session, run_cascade
from celery_cascade.embedded import embedded
from celery_cascade.errors import CascadeError, SessionConflict, SessionFailed
from celery_cascade.events import session_failed
from celery_cascade.persistence import models

FOLDER = Path(tempfile.mkdtemp(prefix="typed-use-"))
ORDER = """\
cascade: order
inputs: {order_id: integer, amount: number}
steps:
  - {id: charge, task: shop.charge, with: {order_id: "{{ inputs.order_id }}", amount: "{{ inputs.amount }}"}}
  - {id: ship, task: shop.ship, with: {receipt: "{{ outputs.charge }}"}}
output: "{{ outputs.ship }}"
"""

app = Celery("shop", **embedded(FOLDER))
cascades = Cascades(app)
failures: list[str] = []


@app.task(name="shop.charge")
def charge(order_id: int, amount: float) -> str:
    session = current_session()
    assert session is not None  # None outside a session
    if amount <= 0:
        raise ValueError(f"order {order_id}: {amount} cannot be charged")
    # The key is the same in every attempt: whoever takes the money refuses the second request.
    return f"receipt of {session.idempotency_key.partition(':')[2]}"


@app.task(name="shop.ship")
def ship(receipt: str) -> dict[str, str]:
    return {"shipped with": receipt}


def alert(sender: Celery, session_id: str, error: dict[str, Any], **_: Any) -> None:
    failures.append(f"{session_id}: {error['type']}")


session_failed.connect(alert, weak=False)


def here_and_now(file: str) -> Any:
    """In this process, and as durable as with a worker."""
    return run_cascade(file, {"order_id": 7, "amount": 19.9}, session_id="order-7", app=app)


def refused(file: str) -> str:
    """An order that fails: the handle tells why."""
    session = cascades.run(file, {"order_id": 8, "amount": 0}, session_id="order-8")
    assert_type(session, Session)
    assert_type(session.status, SessionStatus)
    try:
        session.result(timeout=1)
    except SessionFailed as error:
        return error.message
    raise AssertionError("it was charged")


def twice(file: str) -> str:
    """The same id with other inputs is a conflict; `start` sends it to the workers, of which there is none here."""
    waiting = cascades.start(file, {"order_id": 9, "amount": 5}, session_id="order-9")
    assert_type(waiting.inputs, dict[str, Any])
    try:
        cascades.start(file, {"order_id": 9, "amount": 6}, session_id="order-9")
    except SessionConflict as error:
        assert isinstance(error, CascadeError)  # noqa: PT017  a caller's own check
    return str(waiting.cancel(reason="the customer left"))


def in_sql() -> dict[str, str]:
    """The same, by SQLAlchemy: status of every session."""
    with cascades.db_session() as db:
        found = db.scalars(select(models.Session).order_by(models.Session.session_id)).all()
        assert_type(found[0], models.Session)
        return {row.session_id: row.status for row in found}


def main() -> None:
    file = FOLDER / "order.yaml"
    file.write_text(ORDER, encoding="utf-8")
    print("shipped:", here_and_now(str(file)))
    print("refused:", refused(str(file)))
    print("alerts:", failures)
    print("left:", twice(str(file)))
    print("by handle:", sorted(session.id for session in cascades.sessions(status="failed")))
    print("in SQL:", in_sql())


if __name__ == "__main__":
    main()
