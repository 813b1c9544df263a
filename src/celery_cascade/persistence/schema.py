"""Which revision of the tables this code needs, known without Alembic: a worker's start must not pay for its import."""

from __future__ import annotations

REVISIONS = (
    "0001",
    "0002",
    "0003",
    "0004",
)  #: oldest first; a test compares them with the files in migrations/versions
HEAD = REVISIONS[-1]

VERSION_TABLE = "cascade_alembic_version"

TABLES = (
    "cascade_definitions",
    "cascade_sessions",
    "session_states",
    "session_steps",
    "step_attempts",
    "session_messages",
    "session_context",
    "session_tags",
    "session_signals",
    "session_mappings",
    "session_actions",
    "cascade_workers",
    "cascade_sweeps",
    "cascade_meta",
)
VIEWS = ("cascade_sessions_full", "session_states_full")
OUR_TABLES = frozenset({*TABLES, *VIEWS, VERSION_TABLE})
