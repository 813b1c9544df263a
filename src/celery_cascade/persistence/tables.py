"""Core handles on the tables, for statements (the ORM classes are for people)."""

from __future__ import annotations

from typing import cast

from sqlalchemy import ColumnElement, Table, and_, bindparam, literal_column

from celery_cascade.persistence import models


def _table(model: type[models.Base]) -> Table:
    return cast(Table, model.__table__)


definitions = _table(models.Definition)
sessions = _table(models.Session)
heads = _table(models.SessionState)
steps = _table(models.SessionStep)
attempts = _table(models.StepAttempt)
messages = _table(models.SessionMessage)
context_changes = _table(models.ContextChange)
tags = _table(models.SessionTag)
signals = _table(models.SessionSignal)
mappings = _table(models.SessionMapping)
actions = _table(models.SessionAction)
workers = _table(models.Worker)
sweeps = _table(models.Sweep)
meta = _table(models.Meta)

STEP_KEY = (steps.c.session_id, steps.c.step, steps.c.item)
#: The row that the parameters `b_session`, `b_step`, `b_item` name.
THIS_STEP: ColumnElement[bool] = and_(
    steps.c.session_id == bindparam("b_session"),
    steps.c.step == bindparam("b_step"),
    steps.c.item == bindparam("b_item"),
)
THIS_HEAD: ColumnElement[bool] = heads.c.session_id == bindparam("b_session")


def running() -> ColumnElement[bool]:
    """Steps that run. The word stands in the statement: a partial index serves no parameter it cannot see."""
    return steps.c.status == literal_column("'running'")


def queued() -> ColumnElement[bool]:
    """Steps that are queued; as `running`."""
    return steps.c.status == literal_column("'queued'")
