"""How long finished sessions stay."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from celery_cascade.config.about import setting, settings_of
from celery_cascade.config.values import read_value


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """How long finished sessions stay (D9). `None` for an age = for ever.

    Args:
        completed, cancelled, expired: age after the end at which the session may go.
        failed: longer, because a failed session can still be resumed.
        keep_last: the newest finished sessions of each cascade (by their start) that stay whatever their age. 0 for
            cascades that get a name of their own at every run: each of them is the newest of its name.
        batch: most sessions deleted in one transaction; a tree of sessions that is larger goes in one by itself.
    """

    completed: timedelta | None = setting(
        timedelta(days=7),
        "age",
        doc="Age after its end at which a completed session may go.",
        change="finished runs are looked at for longer, or a law says how long they are kept.",
        without="A week of finished runs.",
    )
    cancelled: timedelta | None = setting(
        timedelta(days=7), "age", doc="The same for cancelled ones.", change="as above.", without="A week of them."
    )
    expired: timedelta | None = setting(
        timedelta(days=7), "age", doc="The same for expired ones.", change="as above.", without="A week of them."
    )
    failed: timedelta | None = setting(
        timedelta(days=30),
        "age",
        doc="The same for failed ones, which can still be resumed until then.",
        change="failures are mended later than within a month (longer), or hold what must go soon (shorter).",
        without="A month of failures.",
    )
    keep_last: int = setting(
        20,
        "count",
        doc="The newest finished sessions of each cascade, by their start, stay whatever their age.",
        change="nothing at all may outlive its age, or each run has a cascade name of its own (0), or more recent runs "
        "shall stay.",
        without="The last 20 runs of a cascade that runs once a year are still there.",
        least=0,
    )
    batch: int = setting(
        1000,
        "count",
        doc="Most sessions that one transaction deletes; a larger tree of sessions goes in one by itself.",
        change="a prune holds others up (less).",
        without="Some hundred milliseconds a transaction on common databases.",
    )

    def __post_init__(self) -> None:
        for name, about in settings_of(type(self)).items():
            value = read_value(f"cascade_retention: {name}", about, getattr(self, name))
            object.__setattr__(self, name, value)
