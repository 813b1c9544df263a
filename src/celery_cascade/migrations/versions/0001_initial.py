"""All tables, two views for people, and what keeps a session's definition and inputs as they were.

Revision ID: 0001
Revises:
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

from celery_cascade.migrations import initial_sql
from celery_cascade.persistence.types import Identifier, Json, LongText, UtcDateTime, utc_now_default

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

MYSQL: dict[str, Any] = {"mysql_engine": "InnoDB", "mysql_charset": "utf8mb4", "mysql_collate": "utf8mb4_bin"}
MYSQL |= {key.replace("mysql", "mariadb"): value for key, value in MYSQL.items()}
BYTES = sa.LargeBinary().with_variant(mysql.LONGBLOB(), "mysql", "mariadb")


def upgrade() -> None:
    _definitions()
    _sessions()
    _states()
    _steps()
    _attempts()
    _messages()
    _signals()
    _mappings()
    _actions()
    _workers()
    _sweeps()
    _meta()
    for statement in initial_sql.views(op.get_context().dialect) + initial_sql.guards(op.get_context().dialect):
        initial_sql.run(statement)


def downgrade() -> None:
    for statement in initial_sql.drop(op.get_context().dialect):
        initial_sql.run(statement)
    for table in initial_sql.TABLES:
        for index in initial_sql.INDEXES.get(table, ()):
            op.drop_index(index, table)
        op.drop_table(table)
    for statement in initial_sql.drop_functions(op.get_context().dialect):
        initial_sql.run(statement)


def _moment(name: str) -> sa.Column[Any]:
    """A time that the database fills in."""
    return sa.Column(name, UtcDateTime(), server_default=utc_now_default(), nullable=False)


def _number(name: str, default: int) -> sa.Column[Any]:
    return sa.Column(name, sa.Integer(), server_default=sa.text(str(default)), nullable=False)


def _of_session(table: str, *, key: bool) -> tuple[Any, ...]:
    """`session_id` as a child of the session, which takes its children with it."""
    return (
        sa.Column("session_id", Identifier(36), primary_key=key, nullable=False),
        sa.ForeignKeyConstraint(
            ["session_id"],
            ["cascade_sessions.session_id"],
            name=f"fk_{table}_session_id",
            ondelete="CASCADE",
        ),
    )


def _definitions() -> None:
    op.create_table(
        "cascade_definitions",
        sa.Column("digest", Identifier(64), nullable=False),
        sa.Column("cascade_id", Identifier(255), nullable=False),
        sa.Column("format", sa.String(10), nullable=False),
        sa.Column("body", BYTES, nullable=False),
        _moment("first_seen_at"),
        sa.PrimaryKeyConstraint("digest", name="pk_cascade_definitions"),
        **MYSQL,
    )
    op.create_index("ix_cascade_definitions_cascade_id", "cascade_definitions", ["cascade_id"])


def _sessions() -> None:
    op.create_table(
        "cascade_sessions",
        sa.Column("session_id", Identifier(36), nullable=False),
        sa.Column("name", Identifier(255)),
        sa.Column("cascade_id", Identifier(255)),
        sa.Column("definition_digest", Identifier(64)),
        sa.Column("definition_format", sa.String(10)),
        sa.Column("input_data", LongText, server_default=sa.text("('{}')"), nullable=False),
        sa.Column("config_path", LongText),
        sa.Column("parent_session_id", Identifier(36)),
        sa.Column("parent_step", Identifier(50)),
        sa.Column("root_session_id", Identifier(36)),
        _number("depth", 0),
        sa.Column("forked_from", Identifier(36)),
        sa.Column("forked_step", Identifier(50)),
        sa.Column("continues", Identifier(36)),
        sa.Column("execution_key", Identifier(64)),
        sa.Column("idempotency_key", Identifier(255)),
        sa.Column("thread_id", Identifier(255)),
        sa.Column("resource_id", Identifier(255)),
        sa.Column("tags", LongText),
        sa.Column("trigger", sa.String(20)),
        sa.Column("nonce", Identifier(32)),
        _moment("created_at"),
        sa.PrimaryKeyConstraint("session_id", name="pk_cascade_sessions"),
        sa.UniqueConstraint("idempotency_key", name="uq_cascade_sessions_idempotency_key"),
        sa.ForeignKeyConstraint(
            ["definition_digest"], ["cascade_definitions.digest"], name="fk_cascade_sessions_definition_digest"
        ),
        sa.CheckConstraint("depth >= 0", name=op.f("ck_cascade_sessions_depth")),
        **MYSQL,
    )
    table = "cascade_sessions"
    op.create_index("ix_cascade_sessions_created_at", table, ["created_at"])
    op.create_index("ix_cascade_sessions_cascade_id_created_at", table, ["cascade_id", "created_at"])
    op.create_index("ix_cascade_sessions_resource_id_created_at", table, ["resource_id", "created_at"])
    op.create_index("ix_cascade_sessions_definition_digest", table, ["definition_digest"])
    op.create_index("ix_cascade_sessions_parent_session_id", table, ["parent_session_id"])
    op.create_index("ix_cascade_sessions_root_session_id", table, ["root_session_id"])
    op.create_index("ix_cascade_sessions_forked_from", table, ["forked_from"])
    op.create_index("ix_cascade_sessions_execution_key", table, ["execution_key"])


def _states() -> None:
    op.create_table(
        "session_states",
        sa.Column("id", Identifier(36), nullable=False),
        *_of_session("session_states", key=False),
        sa.Column("mode", sa.String(50), nullable=False),
        sa.Column("context_variables", Json()),
        sa.Column("plan_data", Json()),
        sa.Column("current_phase", sa.String(50)),
        sa.Column("current_step", sa.Integer()),
        sa.Column("status", sa.String(20), server_default=sa.text("'active'"), nullable=False),
        sa.Column("status_reason", LongText),
        sa.Column("halt", sa.String(20)),
        _number("open_steps", 0),
        _number("total_steps", 0),
        _number("pinned", 0),
        sa.Column("output", LongText),
        sa.Column("error", LongText),
        _moment("created_at"),
        sa.Column("started_at", UtcDateTime()),
        _moment("updated_at"),
        sa.Column("finished_at", UtcDateTime()),
        sa.Column("expires_at", UtcDateTime()),
        _number("version", 1),
        sa.PrimaryKeyConstraint("id", name="pk_session_states"),
        sa.CheckConstraint(
            "status IN ('active', 'suspended', 'completed', 'failed', 'cancelled', 'expired')",
            name=op.f("ck_session_states_status"),
        ),
        sa.CheckConstraint(
            "(status IN ('completed', 'failed', 'cancelled', 'expired')) = (finished_at IS NOT NULL)",
            name=op.f("ck_session_states_finished_when_final"),
        ),
        sa.CheckConstraint("open_steps >= 0", name=op.f("ck_session_states_open_steps")),
        sa.CheckConstraint("version >= 1", name=op.f("ck_session_states_version")),
        **MYSQL,
    )
    table = "session_states"
    op.create_index("idx_session_states_session_id", table, ["session_id"], unique=True)
    op.create_index("idx_session_states_status", table, ["status"])
    op.create_index("idx_session_states_session_status", table, ["session_id", "status"])
    op.create_index("idx_session_states_mode", table, ["mode"])
    # BRIN: a B-tree on a column that every checkpoint writes quadruples the WAL of the head.
    op.create_index("idx_session_states_updated", table, ["updated_at"], postgresql_using="brin")
    op.create_index("ix_session_states_finished_at", table, ["finished_at"])
    op.create_index("ix_session_states_status_created_at", table, ["status", "created_at"])
    op.create_index("ix_session_states_expires_at", table, ["expires_at"])
    halts = sa.text("halt IS NOT NULL")
    op.create_index("ix_session_states_halt", table, ["halt"], postgresql_where=halts, sqlite_where=halts)


def _steps() -> None:
    table = "session_steps"
    op.create_table(
        table,
        *_of_session(table, key=False),
        sa.Column("step", Identifier(50), nullable=False),
        sa.Column("item", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("status", sa.String(10), nullable=False),
        _number("needs_left", 0),
        sa.Column("task", Identifier(255)),
        sa.Column("call", LongText),
        _number("attempt", 1),
        _number("epoch", 0),
        _number("failures", 0),
        _number("retries", 0),
        _number("crashes", 0),
        _number("sends", 0),
        sa.Column("worker", Identifier(36)),
        sa.Column("runner", Identifier(64)),
        sa.Column("token", Identifier(32)),
        sa.Column("reason", sa.String(40)),
        sa.Column("output", LongText),
        sa.Column("error", LongText),
        sa.Column("context_delta", LongText),
        sa.Column("wake_at", UtcDateTime()),
        sa.Column("deadline", UtcDateTime()),
        sa.Column("queued_at", UtcDateTime()),
        sa.Column("started_at", UtcDateTime()),
        sa.Column("finished_at", UtcDateTime()),
        _number("version", 1),
        sa.PrimaryKeyConstraint("session_id", "step", "item", name="pk_session_steps"),
        sa.CheckConstraint(
            "status IN ('pending', 'queued', 'running', 'waiting', 'succeeded', 'failed', 'skipped', 'cancelled')",
            name=op.f("ck_session_steps_status"),
        ),
        sa.CheckConstraint(
            "(status IN ('succeeded', 'failed', 'skipped', 'cancelled')) = (finished_at IS NOT NULL)",
            name=op.f("ck_session_steps_finished_when_final"),
        ),
        sa.CheckConstraint("status <> 'running' OR token IS NOT NULL", name=op.f("ck_session_steps_running_has_token")),
        sa.CheckConstraint("attempt >= 1", name=op.f("ck_session_steps_attempt")),
        sa.CheckConstraint("needs_left >= 0", name=op.f("ck_session_steps_needs_left")),
        **MYSQL,
    )
    for name, columns, condition in (
        ("wake", ["wake_at"], "wake_at IS NOT NULL"),
        ("owner", ["status", "worker"], "status = 'queued' OR status = 'running'"),
        ("deadline", ["deadline"], "deadline IS NOT NULL"),
    ):
        op.create_index(
            f"ix_session_steps_{name}",
            table,
            columns,
            postgresql_where=sa.text(condition),
            sqlite_where=sa.text(condition),
        )


def _attempts() -> None:
    op.create_table(
        "step_attempts",
        *_of_session("step_attempts", key=False),
        sa.Column("step", Identifier(50), nullable=False),
        sa.Column("item", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("attempt", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("kind", sa.String(10), nullable=False),
        sa.Column("error", LongText),
        sa.Column("traceback", LongText),
        sa.Column("worker", Identifier(36)),
        sa.Column("started_at", UtcDateTime()),
        _moment("finished_at"),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("session_id", "step", "item", "attempt", name="pk_step_attempts"),
        sa.CheckConstraint(
            "kind IN ('failure', 'retry', 'crash', 'timeout', 'requeue')", name=op.f("ck_step_attempts_kind")
        ),
        **MYSQL,
    )


def _messages() -> None:
    op.create_table(
        "session_messages",
        *_of_session("session_messages", key=False),
        sa.Column("seq", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("role", sa.String(50), nullable=False),
        sa.Column("content", LongText, nullable=False),
        sa.Column("extra", LongText),
        sa.Column("step", Identifier(50)),
        _moment("created_at"),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("session_id", "seq", name="pk_session_messages"),
        **MYSQL,
    )


def _signals() -> None:
    op.create_table(
        "session_signals",
        sa.Column("id", Identifier(36), nullable=False),
        *_of_session("session_signals", key=False),
        sa.Column("name", Identifier(255), nullable=False),
        sa.Column("kind", sa.String(20), nullable=False),
        sa.Column("payload", LongText),
        sa.Column("sender", Identifier(255)),
        sa.Column("step", Identifier(50)),
        _moment("received_at"),
        sa.Column("taken_at", UtcDateTime()),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_session_signals"),
        **MYSQL,
    )
    op.create_index("ix_session_signals_session_id_name", "session_signals", ["session_id", "name"])


def _mappings() -> None:
    op.create_table(
        "session_mappings",
        sa.Column("thread_id", Identifier(255), nullable=False),
        sa.Column("resource_id", Identifier(255), nullable=False),
        sa.Column("session_id", Identifier(36), nullable=False),
        _moment("created_at"),
        _moment("updated_at"),
        sa.PrimaryKeyConstraint("thread_id", "resource_id", name="pk_session_mappings"),
        **MYSQL,
    )
    op.create_index("ix_session_mappings_session_id", "session_mappings", ["session_id"])
    op.create_index("ix_session_mappings_resource_id_updated_at", "session_mappings", ["resource_id", "updated_at"])


def _actions() -> None:
    op.create_table(
        "session_actions",
        sa.Column("id", Identifier(36), nullable=False),
        *_of_session("session_actions", key=False),
        sa.Column("action", sa.String(30), nullable=False),
        sa.Column("actor", Identifier(255)),
        sa.Column("reason", LongText),
        sa.Column("detail", LongText),
        _moment("done_at"),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_session_actions"),
        **MYSQL,
    )
    op.create_index("ix_session_actions_session_id", "session_actions", ["session_id"])


def _workers() -> None:
    op.create_table(
        "cascade_workers",
        sa.Column("id", Identifier(36), nullable=False),
        sa.Column("nodename", Identifier(255), nullable=False),
        sa.Column("host", Identifier(255), nullable=False),
        sa.Column("boot_id", Identifier(64)),
        sa.Column("pid_namespace", Identifier(64)),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("process_started", Identifier(64)),
        sa.Column("pool", sa.String(20)),
        _number("capacity", 0),
        sa.Column("tasks", LongText),
        _moment("started_at"),
        _moment("heartbeat_at"),
        sa.Column("stopped_at", UtcDateTime()),
        sa.PrimaryKeyConstraint("id", name="pk_cascade_workers"),
        **MYSQL,
    )
    op.create_index("ix_cascade_workers_stopped_at_heartbeat_at", "cascade_workers", ["stopped_at", "heartbeat_at"])


def _sweeps() -> None:
    op.create_table(
        "cascade_sweeps",
        sa.Column("name", Identifier(30), nullable=False),
        sa.Column("began_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_cascade_sweeps"),
        **MYSQL,
    )


def _meta() -> None:
    op.create_table(
        "cascade_meta",
        sa.Column("name", Identifier(50), nullable=False),
        sa.Column("value", LongText, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_cascade_meta"),
        **MYSQL,
    )
    initial_sql.run(initial_sql.new_store_id(op.get_context().dialect))
