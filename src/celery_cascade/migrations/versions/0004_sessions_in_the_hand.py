"""Who set which context key when, tags to find sessions by, conversations over several sessions, points of forks.

Revision ID: 0004
Revises: 0003
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa
from alembic import context, op

from celery_cascade.migrations import initial_sql
from celery_cascade.migrations.again import (
    add_column,
    create_index,
    create_table,
    drop_column,
    drop_index,
    drop_table,
)
from celery_cascade.persistence.types import Identifier, LongText, UtcDateTime, utc_now_default

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

MYSQL: dict[str, Any] = {"mysql_engine": "InnoDB", "mysql_charset": "utf8mb4", "mysql_collate": "utf8mb4_bin"}
MYSQL |= {key.replace("mysql", "mariadb"): value for key, value in MYSQL.items()}

_SESSIONS = "cascade_sessions"
_INDEXES = {
    "ix_cascade_sessions_conversation_id_turn": ["conversation_id", "turn"],
    "ix_cascade_sessions_thread_id_created_at": ["thread_id", "created_at"],
    "ix_cascade_sessions_continues": ["continues"],
    "ix_cascade_sessions_execution_key_created_at": ["execution_key", "created_at"],
}
#: For the beginning of an id: on PostgreSQL the primary key has no range for it unless the collation is C.
_BY_BEGINNING = "ix_cascade_sessions_session_id"
_NEVER_STARTED, _WHERE = "ix_session_states_started_at", sa.text("started_at IS NULL")
#: Takes the place of this one: the newest session of some files is one row of it, not a sort of all they ever had.
_WITHOUT_ORDER = "ix_cascade_sessions_execution_key"
_BATCH = 1000


def upgrade() -> None:
    add_column(_SESSIONS, sa.Column("conversation_id", Identifier(36)))
    add_column(_SESSIONS, sa.Column("turn", sa.Integer(), server_default=sa.text("0"), nullable=False))
    add_column(_SESSIONS, sa.Column("forked_version", sa.Integer()))
    for name, columns in _INDEXES.items():
        create_index(name, _SESSIONS, columns)
    drop_index(_WITHOUT_ORDER, _SESSIONS)
    if op.get_context().dialect.name == "postgresql":
        create_index(_BY_BEGINNING, _SESSIONS, ["session_id"], postgresql_ops={"session_id": "varchar_pattern_ops"})
    create_index(_NEVER_STARTED, "session_states", ["started_at"], postgresql_where=_WHERE, sqlite_where=_WHERE)
    _guard(("forked_version", "conversation_id", "turn"))
    add_column("session_states", sa.Column("context_version", sa.Integer()))
    add_column("step_attempts", sa.Column("ended_step", sa.Integer()))
    create_table(
        "session_context",
        *_of_session("session_context"),
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("delta", LongText, nullable=False),
        sa.Column("step", Identifier(50)),
        sa.Column("actor", Identifier(255)),
        sa.Column("set_at", UtcDateTime(), server_default=utc_now_default(), nullable=False),
        sa.PrimaryKeyConstraint("session_id", "version", name="pk_session_context"),
        **MYSQL,
    )
    create_table(
        "session_tags",
        *_of_session("session_tags"),
        sa.Column("tag", Identifier(255), nullable=False),
        sa.Column("created_at", UtcDateTime(), server_default=utc_now_default(), nullable=False),
        sa.PrimaryKeyConstraint("session_id", "tag", name="pk_session_tags"),
        **MYSQL,
    )
    create_index("ix_session_tags_tag_created_at", "session_tags", ["tag", "created_at"])
    if not context.is_offline_mode():
        _copy_tags()


def downgrade() -> None:
    drop_table("session_tags")
    drop_table("session_context")
    drop_column("step_attempts", "ended_step")
    drop_column("session_states", "context_version")
    _guard(())
    drop_index(_NEVER_STARTED, "session_states")
    if op.get_context().dialect.name == "postgresql":
        drop_index(_BY_BEGINNING, _SESSIONS)
    create_index(_WITHOUT_ORDER, _SESSIONS, ["execution_key"])
    for name in reversed(_INDEXES):
        drop_index(name, _SESSIONS)
    for name in ("forked_version", "turn", "conversation_id"):
        drop_column(_SESSIONS, name)


def _guard(later: tuple[str, ...]) -> None:
    for statement in initial_sql.guard_again(op.get_context().dialect, _SESSIONS, later):
        initial_sql.run(statement)


def _of_session(table: str) -> tuple[Any, ...]:
    """`session_id` as a child of the session, which takes its children with it."""
    return (
        sa.Column("session_id", Identifier(36), nullable=False),
        sa.ForeignKeyConstraint(
            ["session_id"], ["cascade_sessions.session_id"], name=f"fk_{table}_session_id", ondelete="CASCADE"
        ),
    )


def _copy_tags() -> None:
    """The tags that sessions bear already; some of them twice if an earlier try got so far, so those are left out."""
    bind = op.get_bind()
    moment = UtcDateTime()
    sessions = sa.table(_SESSIONS, sa.column("session_id"), sa.column("tags"), sa.column("created_at", moment))
    tags = sa.table("session_tags", sa.column("session_id"), sa.column("tag"), sa.column("created_at", moment))
    page = (
        sa.select(sessions.c.session_id, sessions.c.tags, sessions.c.created_at)
        .where(sessions.c.tags.is_not(None), sessions.c.session_id > sa.bindparam("after"))
        .order_by(sessions.c.session_id)
        .limit(_BATCH)
    )
    after = ""
    while rows := bind.execute(page, {"after": after}).all():
        after = rows[-1].session_id
        ids = [row.session_id for row in rows]
        known = sa.select(tags.c.session_id, tags.c.tag).where(tags.c.session_id.in_(ids))
        there = {tuple(row) for row in bind.execute(known)}
        new = [
            {"session_id": row.session_id, "tag": tag, "created_at": row.created_at}
            for row in rows
            if row.created_at is not None  # damaged (R119): a prune mends it, nobody finds it by its tag
            for tag in _tags_in(row.tags)
            if (row.session_id, tag) not in there
        ]
        if new:
            bind.execute(sa.insert(tags), new)


def _tags_in(text: str) -> Iterator[str]:
    try:
        found = json.loads(text)
    except ValueError:
        return
    if isinstance(found, list):
        yield from dict.fromkeys(tag for tag in found if isinstance(tag, str) and 0 < len(tag) <= 255)
