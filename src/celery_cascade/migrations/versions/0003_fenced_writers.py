"""When the late end of an attempt was refused, and the indexes by which recoveries are counted.

Revision ID: 0003
Revises: 0002
"""

from __future__ import annotations

import sqlalchemy as sa

from celery_cascade.migrations.again import add_column, create_index, drop_column, drop_index
from celery_cascade.persistence.types import UtcDateTime

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_TABLE = "step_attempts"
_REFUSED = sa.text("fenced_at IS NOT NULL")


def upgrade() -> None:
    add_column(_TABLE, sa.Column("fenced_at", UtcDateTime()))
    create_index("ix_step_attempts_finished_at", _TABLE, ["finished_at"])
    create_index("ix_step_attempts_fenced_at", _TABLE, ["fenced_at"], postgresql_where=_REFUSED, sqlite_where=_REFUSED)


def downgrade() -> None:
    drop_index("ix_step_attempts_fenced_at", _TABLE)
    drop_index("ix_step_attempts_finished_at", _TABLE)
    drop_column(_TABLE, "fenced_at")
