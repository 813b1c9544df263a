"""The order that the demo places, and what has to come of it."""

from __future__ import annotations

ORDER_ID = 7
ARTICLES = 8
INTERRUPTED = "pick"  #: the step in which the worker is killed
PAPERS = f"orders/{ORDER_ID}"

#: The output of the session, whatever happens on the way.
EXPECTED = {
    "cents": 10040,
    "receipt": f"R-{ORDER_ID:05d}",
    "parcel": f"{PAPERS}/parcel.json",
    "label": f"{PAPERS}/label.svg",
    "invoice": f"{PAPERS}/invoice.txt",
    "mail": f"{PAPERS}/mail.eml",
}
