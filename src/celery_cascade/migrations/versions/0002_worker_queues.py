"""Which queues a worker consumes, so that a start can tell that nobody listens to a step's queue.

Revision ID: 0002
Revises: 0001
"""

from __future__ import annotations

import sqlalchemy as sa

from celery_cascade.migrations.again import add_column, drop_column
from celery_cascade.persistence.types import LongText

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    add_column("cascade_workers", sa.Column("queues", LongText))


def downgrade() -> None:
    drop_column("cascade_workers", "queues")
