"""The tables (DESIGN.md section 5) and the public ORM classes `Session` and `SessionState` (D5).

JSON made by our codec is kept as text, so that every SQL client and driver gives the same characters back.
Alembic's migrations make the same schema; a test compares the two on every database.
"""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any

from sqlalchemy import (
    CheckConstraint,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    text,
)
from sqlalchemy.dialects.mysql import LONGBLOB
from sqlalchemy.ext.associationproxy import AssociationProxy, association_proxy
from sqlalchemy.ext.hybrid import hybrid_property
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship, synonym, validates
from sqlalchemy.sql.elements import ColumnElement

from celery_cascade.persistence import orm, orm_context
from celery_cascade.persistence.orm_json import TrackedJson
from celery_cascade.persistence.types import (
    Identifier,
    Json,
    LongText,
    UtcDateTime,
    statement_time,
    utc_now_default,
)

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s",
    "pk": "pk_%(table_name)s",
}
MYSQL = {"mysql_engine": "InnoDB", "mysql_charset": "utf8mb4", "mysql_collate": "utf8mb4_bin"}
MYSQL |= {key.replace("mysql", "mariadb"): value for key, value in MYSQL.items()}

SESSION_STATUSES = ("active", "suspended", "completed", "failed", "cancelled", "expired")
STEP_STATUSES = ("pending", "queued", "running", "waiting", "succeeded", "failed", "skipped", "cancelled")
FINAL_STEPS = ("succeeded", "failed", "skipped", "cancelled")
FINAL_SESSIONS = ("completed", "failed", "cancelled", "expired")


def _one_of(column: str, words: tuple[str, ...]) -> str:
    return f"{column} IN ({', '.join(repr(word) for word in words)})"


class Base(DeclarativeBase):
    """All our tables, and nobody else's."""

    metadata = MetaData(naming_convention=NAMING, info={"celery_cascade": True})  # read by migrations.include_object


class Definition(Base):
    """One distinct definition: its exact bytes, once."""

    __tablename__ = "cascade_definitions"
    __table_args__ = (MYSQL,)

    digest: Mapped[str] = mapped_column(Identifier(64), primary_key=True)
    cascade_id: Mapped[str] = mapped_column(Identifier(255), index=True)
    format: Mapped[str] = mapped_column(String(10))
    body: Mapped[bytes] = mapped_column(LargeBinary().with_variant(LONGBLOB(), "mysql", "mariadb"))
    first_seen_at: Mapped[datetime] = mapped_column(UtcDateTime, server_default=utc_now_default())


class Session(Base):
    """The immutable part of one run of a cascade; its moving head is `state`."""

    __tablename__ = "cascade_sessions"
    __table_args__ = (
        CheckConstraint("depth >= 0", name="depth"),
        Index("ix_cascade_sessions_created_at", "created_at"),
        Index("ix_cascade_sessions_cascade_id_created_at", "cascade_id", "created_at"),
        Index("ix_cascade_sessions_resource_id_created_at", "resource_id", "created_at"),
        Index("ix_cascade_sessions_thread_id_created_at", "thread_id", "created_at"),
        Index("ix_cascade_sessions_execution_key_created_at", "execution_key", "created_at"),
        Index("ix_cascade_sessions_conversation_id_turn", "conversation_id", "turn"),
        Index("ix_cascade_sessions_continues", "continues"),
        # For the beginning of an id: PostgreSQL's primary key has no range for it unless the collation is C.
        Index(
            "ix_cascade_sessions_session_id",
            "session_id",
            postgresql_ops={"session_id": "varchar_pattern_ops"},
            info={"dialect": "postgresql"},  # for Alembic; see migrations.only_ours
        ).ddl_if(dialect="postgresql"),
        MYSQL,
    )

    session_id: Mapped[str] = mapped_column(Identifier(36), primary_key=True, default=lambda: str(uuid.uuid4()))
    name: Mapped[str | None] = mapped_column(Identifier(255))
    cascade_id: Mapped[str | None] = mapped_column(Identifier(255))
    definition_digest: Mapped[str | None] = mapped_column(
        Identifier(64), ForeignKey("cascade_definitions.digest"), index=True
    )
    definition_format: Mapped[str | None] = mapped_column(String(10))
    input_data: Mapped[str] = mapped_column(LongText, default="{}", server_default=text("('{}')"))
    config_path: Mapped[str | None] = mapped_column(LongText)
    parent_session_id: Mapped[str | None] = mapped_column(Identifier(36), index=True)
    parent_step: Mapped[str | None] = mapped_column(Identifier(50))
    root_session_id: Mapped[str | None] = mapped_column(Identifier(36), index=True)
    depth: Mapped[int] = mapped_column(Integer, default=0, server_default=text("0"))
    forked_from: Mapped[str | None] = mapped_column(Identifier(36), index=True)
    forked_step: Mapped[str | None] = mapped_column(Identifier(50))
    continues: Mapped[str | None] = mapped_column(Identifier(36))
    execution_key: Mapped[str | None] = mapped_column(Identifier(64))
    idempotency_key: Mapped[str | None] = mapped_column(Identifier(255), unique=True)
    thread_id: Mapped[str | None] = mapped_column(Identifier(255))
    resource_id: Mapped[str | None] = mapped_column(Identifier(255))
    tags: Mapped[str | None] = mapped_column(LongText)
    trigger: Mapped[str | None] = mapped_column(String(20))
    nonce: Mapped[str | None] = mapped_column(Identifier(32))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, server_default=utc_now_default())
    conversation_id: Mapped[str | None] = mapped_column(Identifier(36))  # its first session's id; NULL = its own
    turn: Mapped[int] = mapped_column(Integer, default=0, server_default=text("0"))  # its number in the conversation
    forked_version: Mapped[int | None] = mapped_column(Integer)  # of the origin, up to which it is the same

    #: One at most (UNIQUE); a list because S1's readers know it as one.
    session_states: Mapped[list[SessionState]] = relationship(back_populates="session", cascade="all, delete-orphan")
    id = synonym("session_id")

    @property
    def state(self) -> SessionState | None:
        """The moving head; None as long as there is none."""
        return self.session_states[0] if self.session_states else None

    @hybrid_property
    def status(self) -> str:
        """The head's status; a session without a head is `active`."""
        return self.state.status if self.state is not None else "active"

    @status.inplace.setter
    def _set_status(self, value: str) -> None:
        orm.set_status(self, value)

    @status.inplace.expression
    @classmethod
    def _status_in_sql(cls) -> ColumnElement[str]:
        return orm.status_in_sql()


def _message(said: dict[str, Any]) -> SessionMessage:
    return SessionMessage(**orm.message_columns(said))


class SessionState(Base):
    """The moving head of a session: one narrow row, rewritten once a checkpoint."""

    __tablename__ = "session_states"
    __table_args__ = (
        CheckConstraint(_one_of("status", SESSION_STATUSES), name="status"),
        CheckConstraint(
            f"({_one_of('status', FINAL_SESSIONS)}) = (finished_at IS NOT NULL)", name="finished_when_final"
        ),
        CheckConstraint("open_steps >= 0", name="open_steps"),
        CheckConstraint("version >= 1", name="version"),
        Index("idx_session_states_session_id", "session_id", unique=True),
        Index("idx_session_states_status", "status"),
        Index("idx_session_states_session_status", "session_id", "status"),
        Index("idx_session_states_mode", "mode"),
        # BRIN: a B-tree on a column that every checkpoint writes quadruples the WAL of the head.
        Index("idx_session_states_updated", "updated_at", postgresql_using="brin"),
        Index("ix_session_states_finished_at", "finished_at"),
        Index("ix_session_states_status_created_at", "status", "created_at"),
        Index("ix_session_states_expires_at", "expires_at"),
        Index(
            "ix_session_states_halt",
            "halt",
            postgresql_where=text("halt IS NOT NULL"),
            sqlite_where=text("halt IS NOT NULL"),
        ),
        Index(  # what waits for its turn; on MySQL, which has no partial indexes, next to nothing else is NULL
            "ix_session_states_started_at",
            "started_at",
            postgresql_where=text("started_at IS NULL"),
            sqlite_where=text("started_at IS NULL"),
        ),
        MYSQL,
    )

    id: Mapped[str] = mapped_column(Identifier(36), primary_key=True, default=lambda: str(uuid.uuid4()))
    session_id: Mapped[str] = mapped_column(
        Identifier(36), ForeignKey("cascade_sessions.session_id", ondelete="CASCADE")
    )
    mode: Mapped[str] = mapped_column(String(50))
    context_variables: Mapped[Any | None] = mapped_column(TrackedJson.as_mutable(Json()))
    plan_data: Mapped[Any | None] = mapped_column(TrackedJson.as_mutable(Json()))
    current_phase: Mapped[str | None] = mapped_column(String(50))
    current_step: Mapped[int | None] = mapped_column(Integer)
    status: Mapped[str] = mapped_column(String(20), default="active", server_default=text("'active'"))
    status_reason: Mapped[str | None] = mapped_column(LongText)
    halt: Mapped[str | None] = mapped_column(String(20))
    open_steps: Mapped[int] = mapped_column(Integer, default=0, server_default=text("0"))
    total_steps: Mapped[int] = mapped_column(Integer, default=0, server_default=text("0"))
    pinned: Mapped[int] = mapped_column(Integer, default=0, server_default=text("0"))
    output: Mapped[str | None] = mapped_column(LongText)
    error: Mapped[str | None] = mapped_column(LongText)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, server_default=utc_now_default())
    started_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    updated_at: Mapped[datetime] = mapped_column(
        UtcDateTime, server_default=utc_now_default(), onupdate=statement_time()
    )
    finished_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    expires_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    version: Mapped[int] = mapped_column(Integer, default=1, server_default=text("1"))
    context_version: Mapped[int | None] = mapped_column(Integer)  # later deltas are in `session_context` only

    session: Mapped[Session] = relationship(back_populates="session_states")
    messages: Mapped[list[SessionMessage]] = relationship(
        primaryjoin="SessionState.session_id == foreign(SessionMessage.session_id)",
        order_by="SessionMessage.seq",
        cascade="save-update, merge",
        passive_deletes="all",  # they go with the session, by its foreign key
    )
    #: The messages as mappings; append one with `.append({"role": …, "content": …})`.
    conversation_history: AssociationProxy[list[dict[str, Any]]] = association_proxy(
        "messages", "as_mapping", creator=_message
    )

    __mapper_args__ = {"version_id_col": version}  # noqa: RUF012 - the ORM's own form

    @classmethod
    def create_for_session(cls, session_id: str, mode: str, **kwargs: Any) -> SessionState:
        """A head for a session that has none, as it stands before the first step (R44)."""
        return cls(session_id=session_id, mode=mode, **(orm.new_state() | kwargs))

    def to_dict(self) -> dict[str, Any]:
        """What `json.dumps` takes; times in ISO 8601 with their zone (R43)."""
        return orm.state_as_dict(self)

    @validates("status")
    def _move(self, _key: str, value: str) -> str:
        return orm.moved(self, value)


class SessionStep(Base):
    """One step of a session, or one item of a mapped step (`item` = -1: not one of many)."""

    __tablename__ = "session_steps"
    __table_args__ = (
        CheckConstraint(_one_of("status", STEP_STATUSES), name="status"),
        CheckConstraint(f"({_one_of('status', FINAL_STEPS)}) = (finished_at IS NOT NULL)", name="finished_when_final"),
        CheckConstraint("status <> 'running' OR token IS NOT NULL", name="running_has_token"),
        CheckConstraint("attempt >= 1", name="attempt"),
        CheckConstraint("needs_left >= 0", name="needs_left"),
        Index(
            "ix_session_steps_wake",
            "wake_at",
            postgresql_where=text("wake_at IS NOT NULL"),
            sqlite_where=text("wake_at IS NOT NULL"),
        ),
        Index(
            "ix_session_steps_owner",
            "status",  # first: "who runs?" is asked without a worker, and MySQL has no partial indexes
            "worker",
            postgresql_where=text("status = 'queued' OR status = 'running'"),
            sqlite_where=text("status = 'queued' OR status = 'running'"),  # IN would serve only IN
        ),
        Index(
            "ix_session_steps_deadline",
            "deadline",
            postgresql_where=text("deadline IS NOT NULL"),
            sqlite_where=text("deadline IS NOT NULL"),
        ),
        MYSQL,
    )

    session_id: Mapped[str] = mapped_column(
        Identifier(36), ForeignKey("cascade_sessions.session_id", ondelete="CASCADE"), primary_key=True
    )
    step: Mapped[str] = mapped_column(Identifier(50), primary_key=True)
    item: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False, default=-1)
    status: Mapped[str] = mapped_column(String(10))
    needs_left: Mapped[int] = mapped_column(Integer, default=0, server_default=text("0"))
    task: Mapped[str | None] = mapped_column(Identifier(255))
    call: Mapped[str | None] = mapped_column(LongText)
    attempt: Mapped[int] = mapped_column(Integer, default=1, server_default=text("1"))
    epoch: Mapped[int] = mapped_column(Integer, default=0, server_default=text("0"))
    failures: Mapped[int] = mapped_column(Integer, default=0, server_default=text("0"))
    retries: Mapped[int] = mapped_column(Integer, default=0, server_default=text("0"))
    crashes: Mapped[int] = mapped_column(Integer, default=0, server_default=text("0"))
    sends: Mapped[int] = mapped_column(Integer, default=0, server_default=text("0"))
    worker: Mapped[str | None] = mapped_column(Identifier(36))
    runner: Mapped[str | None] = mapped_column(Identifier(64))
    token: Mapped[str | None] = mapped_column(Identifier(32))
    reason: Mapped[str | None] = mapped_column(String(40))
    output: Mapped[str | None] = mapped_column(LongText)
    error: Mapped[str | None] = mapped_column(LongText)
    context_delta: Mapped[str | None] = mapped_column(LongText)  # never written: `session_context` has the deltas
    wake_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    deadline: Mapped[datetime | None] = mapped_column(UtcDateTime)
    queued_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    started_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    finished_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    version: Mapped[int] = mapped_column(Integer, default=1, server_default=text("1"))


class StepAttempt(Base):
    """An attempt that did not succeed."""

    __tablename__ = "step_attempts"
    __table_args__ = (
        CheckConstraint("kind IN ('failure', 'retry', 'crash', 'timeout', 'requeue')", name="kind"),
        Index("ix_step_attempts_finished_at", "finished_at"),
        Index(
            "ix_step_attempts_fenced_at",
            "fenced_at",
            postgresql_where=text("fenced_at IS NOT NULL"),
            sqlite_where=text("fenced_at IS NOT NULL"),
        ),
        MYSQL,
    )

    session_id: Mapped[str] = mapped_column(
        Identifier(36), ForeignKey("cascade_sessions.session_id", ondelete="CASCADE"), primary_key=True
    )
    step: Mapped[str] = mapped_column(Identifier(50), primary_key=True)
    item: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False, default=-1)
    attempt: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    kind: Mapped[str] = mapped_column(String(10))
    error: Mapped[str | None] = mapped_column(LongText)
    traceback: Mapped[str | None] = mapped_column(LongText)
    worker: Mapped[str | None] = mapped_column(Identifier(36))
    started_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    finished_at: Mapped[datetime] = mapped_column(UtcDateTime, server_default=utc_now_default())
    version: Mapped[int] = mapped_column(Integer)
    fenced_at: Mapped[datetime | None] = mapped_column(UtcDateTime)  # its late end came, and was refused
    ended_step: Mapped[int | None] = mapped_column(Integer)  # 1: the step failed with it; NULL: of an older worker


class SessionMessage(Base):
    """One conversation message; append only."""

    __tablename__ = "session_messages"
    __table_args__ = (MYSQL,)

    session_id: Mapped[str] = mapped_column(
        Identifier(36), ForeignKey("cascade_sessions.session_id", ondelete="CASCADE"), primary_key=True
    )
    seq: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    role: Mapped[str] = mapped_column(String(50))
    content: Mapped[str] = mapped_column(LongText)  # JSON, as every other value
    extra: Mapped[str | None] = mapped_column(LongText)  # JSON of the mapping's other keys; NULL = none
    step: Mapped[str | None] = mapped_column(Identifier(50))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, server_default=utc_now_default())
    version: Mapped[int] = mapped_column(Integer)

    @property
    def as_mapping(self) -> dict[str, Any]:
        """The message as it was said: role, content and whatever else it bore."""
        return orm.message_as_mapping(self)


class ContextChange(Base):
    """What one transaction changed in a session's context; append only. All of them, in order, give the context."""

    __tablename__ = "session_context"
    __table_args__ = (MYSQL,)

    session_id: Mapped[str] = mapped_column(
        Identifier(36), ForeignKey("cascade_sessions.session_id", ondelete="CASCADE"), primary_key=True
    )
    version: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    delta: Mapped[str] = mapped_column(LongText)
    step: Mapped[str | None] = mapped_column(Identifier(50))  # NULL = set from outside
    actor: Mapped[str | None] = mapped_column(Identifier(255))
    set_at: Mapped[datetime] = mapped_column(UtcDateTime, server_default=utc_now_default())


class SessionTag(Base):
    """A tag of a session, to find it by; `cascade_sessions.tags` has them in their order."""

    __tablename__ = "session_tags"
    __table_args__ = (Index("ix_session_tags_tag_created_at", "tag", "created_at"), MYSQL)

    session_id: Mapped[str] = mapped_column(
        Identifier(36), ForeignKey("cascade_sessions.session_id", ondelete="CASCADE"), primary_key=True
    )
    tag: Mapped[str] = mapped_column(Identifier(255), primary_key=True)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, server_default=utc_now_default())


class SessionSignal(Base):
    """An outside event or an approval; it waits here if it comes before the step that waits for it."""

    __tablename__ = "session_signals"
    __table_args__ = (Index("ix_session_signals_session_id_name", "session_id", "name"), MYSQL)

    id: Mapped[str] = mapped_column(Identifier(36), primary_key=True, default=lambda: str(uuid.uuid4()))
    session_id: Mapped[str] = mapped_column(
        Identifier(36), ForeignKey("cascade_sessions.session_id", ondelete="CASCADE")
    )
    name: Mapped[str] = mapped_column(Identifier(255))
    kind: Mapped[str] = mapped_column(String(20))
    payload: Mapped[str | None] = mapped_column(LongText)
    sender: Mapped[str | None] = mapped_column(Identifier(255))
    step: Mapped[str | None] = mapped_column(Identifier(50))
    received_at: Mapped[datetime] = mapped_column(UtcDateTime, server_default=utc_now_default())
    taken_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    version: Mapped[int] = mapped_column(Integer)


class SessionMapping(Base):
    """A user's own handle on a conversation: (thread, resource) to session."""

    __tablename__ = "session_mappings"
    __table_args__ = (Index("ix_session_mappings_resource_id_updated_at", "resource_id", "updated_at"), MYSQL)

    thread_id: Mapped[str] = mapped_column(Identifier(255), primary_key=True)
    resource_id: Mapped[str] = mapped_column(Identifier(255), primary_key=True)
    session_id: Mapped[str] = mapped_column(Identifier(36), index=True)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, server_default=utc_now_default())
    updated_at: Mapped[datetime] = mapped_column(UtcDateTime, server_default=utc_now_default())


class SessionAction(Base):
    """What an operator did to a session, and why."""

    __tablename__ = "session_actions"
    __table_args__ = (Index("ix_session_actions_session_id", "session_id"), MYSQL)

    id: Mapped[str] = mapped_column(Identifier(36), primary_key=True, default=lambda: str(uuid.uuid4()))
    session_id: Mapped[str] = mapped_column(
        Identifier(36), ForeignKey("cascade_sessions.session_id", ondelete="CASCADE")
    )
    action: Mapped[str] = mapped_column(String(30))
    actor: Mapped[str | None] = mapped_column(Identifier(255))
    reason: Mapped[str | None] = mapped_column(LongText)
    detail: Mapped[str | None] = mapped_column(LongText)
    done_at: Mapped[datetime] = mapped_column(UtcDateTime, server_default=utc_now_default())
    version: Mapped[int] = mapped_column(Integer)


class Worker(Base):
    """One incarnation of a worker: it lives while its heartbeat is fresh."""

    __tablename__ = "cascade_workers"
    __table_args__ = (Index("ix_cascade_workers_stopped_at_heartbeat_at", "stopped_at", "heartbeat_at"), MYSQL)

    id: Mapped[str] = mapped_column(Identifier(36), primary_key=True)
    nodename: Mapped[str] = mapped_column(Identifier(255))
    host: Mapped[str] = mapped_column(Identifier(255))
    boot_id: Mapped[str | None] = mapped_column(Identifier(64))
    pid_namespace: Mapped[str | None] = mapped_column(Identifier(64))
    pid: Mapped[int] = mapped_column(Integer)
    process_started: Mapped[str | None] = mapped_column(Identifier(64))
    pool: Mapped[str | None] = mapped_column(String(20))
    capacity: Mapped[int] = mapped_column(Integer, default=0, server_default=text("0"))
    tasks: Mapped[str | None] = mapped_column(LongText)
    started_at: Mapped[datetime] = mapped_column(UtcDateTime, server_default=utc_now_default())
    heartbeat_at: Mapped[datetime] = mapped_column(UtcDateTime, server_default=utc_now_default())
    stopped_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    queues: Mapped[str | None] = mapped_column(LongText)


class Sweep(Base):
    """When a sweep last began, so that many workers share one."""

    __tablename__ = "cascade_sweeps"
    __table_args__ = (MYSQL,)

    name: Mapped[str] = mapped_column(Identifier(30), primary_key=True)
    began_at: Mapped[datetime] = mapped_column(UtcDateTime)


class Meta(Base):
    """Facts about the store itself: its random id."""

    __tablename__ = "cascade_meta"
    __table_args__ = (MYSQL,)

    name: Mapped[str] = mapped_column(Identifier(50), primary_key=True)
    value: Mapped[str] = mapped_column(LongText)


orm.number_messages(SessionState.messages)
orm_context.keep_changes(SessionState, ContextChange)
