"""Revision 0001 in each database's own words: the views for people, and what refuses changes (D5, R28).

Frozen with that revision: later ones replace views and triggers, they do not edit what it executes. `LATER` is theirs.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from typing import Any

from alembic import op
from sqlalchemy.exc import DBAPIError

logger = logging.getLogger(__name__)

#: Children first, as they are dropped.
TABLES = (
    "cascade_meta",
    "cascade_sweeps",
    "cascade_workers",
    "session_actions",
    "session_mappings",
    "session_signals",
    "session_messages",
    "step_attempts",
    "session_steps",
    "session_states",
    "cascade_sessions",
    "cascade_definitions",
)
#: The indexes that no foreign key leans on; MySQL drops the others with their table only.
INDEXES = {
    "session_states": (
        "idx_session_states_updated",
        "idx_session_states_mode",
        "idx_session_states_session_status",
        "idx_session_states_status",
    ),
}
VIEWS = ("session_states_full", "cascade_sessions_full")
#: What may not change once it is written. `name` and `tags` of a session are labels for people, and may.
IMMUTABLE = {
    "cascade_definitions": ("digest", "cascade_id", "format", "body", "first_seen_at"),
    "cascade_sessions": (
        "session_id",
        "cascade_id",
        "definition_digest",
        "definition_format",
        "input_data",
        "config_path",
        "parent_session_id",
        "parent_step",
        "root_session_id",
        "depth",
        "forked_from",
        "forked_step",
        "continues",
        "execution_key",
        "idempotency_key",
        "thread_id",
        "resource_id",
        "trigger",
        "nonce",
        "created_at",
    ),
}
#: Columns of later revisions that may not change either, by table.
LATER = {"cascade_sessions": ("forked_version", "conversation_id", "turn")}
_SAME = {"sqlite": "IS", "postgresql": "IS NOT DISTINCT FROM", "mysql": "<=>"}
_NO_TRIGGER_RIGHT = 1419  # MySQL with a binary log, for users without SUPER


def run(statement: str) -> None:
    """Execute DDL as it is written: no `%` or `:` in it means anything to us."""
    try:
        op.execute(literal(statement))
    except DBAPIError as error:
        if getattr(error.orig, "args", (None,))[0] != _NO_TRIGGER_RIGHT:
            raise
        logger.warning(
            "this MySQL user may not make triggers: nothing but our own code keeps definitions and inputs from being "
            "changed. To have them kept by the database: SET GLOBAL log_bin_trust_function_creators = 1, "
            "then migrate down and up again"
        )


def new_store_id(dialect: Any) -> str:
    """The store's own random id, made by the database so that an SQL script has it too."""
    value = {"sqlite": "lower(hex(randomblob(16)))", "postgresql": "replace(gen_random_uuid()::text, '-', '')"}
    made = value.get(dialect.name, "md5(concat(uuid(), rand()))")
    return f"INSERT INTO cascade_meta (name, value) VALUES ('store_id', {made})"  # noqa: S608 - one of three constants


def guards(dialect: Any) -> list[str]:
    """Triggers that refuse an UPDATE which changes what is immutable; one that changes nothing passes."""
    statements = [_PG_REFUSE] if dialect.name == "postgresql" else []
    return statements + [_guard(dialect.name, table) for table in IMMUTABLE]


def views(dialect: Any) -> list[str]:
    """`cascade_sessions_full` with S0's columns, `session_states_full` with S1's; read-only on every database."""
    if dialect.name == "postgresql":
        return [_PG_AS_TEXT, _PG_SESSIONS, _PG_STATES]
    if dialect.name == "sqlite":
        return [_SQLITE_SESSIONS, _SQLITE_STATES]
    return [
        _MYSQL_SESSIONS,
        _MYSQL_STATES.replace("<messages>", _MARIADB_MESSAGES if _mariadb(dialect) else _MYSQL_MESSAGES),
    ]


def drop(dialect: Any) -> list[str]:
    return [f"DROP VIEW IF EXISTS {view}" for view in VIEWS] + [_drop_guard(dialect, table) for table in IMMUTABLE]


def guard_again(dialect: Any, table: str, columns: tuple[str, ...]) -> list[str]:
    """Replace the trigger of a table by one for the columns of 0001 and these."""
    return [_drop_guard(dialect, table), _guard(dialect.name, table, columns)]


def _drop_guard(dialect: Any, table: str) -> str:
    return f"DROP TRIGGER IF EXISTS {table}_are_immutable" + (f" ON {table}" if dialect.name == "postgresql" else "")


def made_again(dialect: Any, tables: Collection[str]) -> list[str]:
    """What belongs to tables that were dropped by hand: their triggers, and the views."""
    functions = _PG_FUNCTIONS if dialect.name == "postgresql" else []
    lost = [_guard(dialect.name, table, LATER.get(table, ())) for table in IMMUTABLE if table in tables]
    return [*functions, *lost, *(view for view in views(dialect) if view != _PG_AS_TEXT)]


def drop_functions(dialect: Any) -> list[str]:
    if dialect.name != "postgresql":
        return []
    return ["DROP FUNCTION IF EXISTS cascade_refuse_update()", "DROP FUNCTION IF EXISTS cascade_as_text(bytea)"]


def literal(statement: str) -> Any:
    """The statement as it is written: no `:` in it is a parameter."""
    from sqlalchemy import text

    return text(statement.replace("\\", "\\\\").replace(":", "\\:"))


def _mariadb(dialect: Any) -> bool:
    return dialect.name == "mariadb" or bool(getattr(dialect, "is_mariadb", False))


def _guard(dialect: str, table: str, later: tuple[str, ...] = ()) -> str:
    family = dialect if dialect in _SAME else "mysql"
    quote = "`" if family == "mysql" else '"'
    columns = [f"{quote}{name}{quote}" for name in (*IMMUTABLE[table], *later)]
    unchanged = " AND ".join(f"NEW.{column} {_SAME[family]} OLD.{column}" for column in columns)
    said = f"{table} are immutable: a new run gets a new row"
    head = f"CREATE TRIGGER {table}_are_immutable BEFORE UPDATE ON {table} FOR EACH ROW"
    if family == "sqlite":
        return f"{head} WHEN NOT ({unchanged}) BEGIN SELECT RAISE(ABORT, '{said}'); END"
    if family == "postgresql":
        return f"{head} WHEN (NOT ({unchanged})) EXECUTE FUNCTION cascade_refuse_update('{said}')"
    return f"{head} IF NOT ({unchanged}) THEN SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = '{said}'; END IF"


_PG_REFUSE = """
CREATE FUNCTION cascade_refuse_update() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION USING MESSAGE = TG_ARGV[0], ERRCODE = 'integrity_constraint_violation';
END $$
"""

# A definition need not be UTF-8; one that is not must not make the view unreadable for all others.
_PG_AS_TEXT = """
CREATE FUNCTION cascade_as_text(body bytea) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    RETURN convert_from(body, 'UTF8');
EXCEPTION WHEN OTHERS THEN
    RETURN encode(body, 'escape');
END $$
"""

#: For tables that are made again: the functions may be there still.
_PG_FUNCTIONS = [words.replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION") for words in (_PG_REFUSE, _PG_AS_TEXT)]

_PG_SESSIONS = """
CREATE VIEW cascade_sessions_full AS
SELECT s.session_id, s.cascade_id, cascade_as_text(d.body) AS cascade_definition,
       s.definition_digest AS definition_sha256, s.input_data, s.config_path, s.created_at,
       s.parent_session_id, s.depth
FROM cascade_sessions s LEFT JOIN cascade_definitions d ON d.digest = s.definition_digest
"""

_SQLITE_SESSIONS = _PG_SESSIONS.replace("cascade_as_text(d.body)", "CAST(d.body AS TEXT)")

# MySQL lets a view be written through, a join too, unless a subquery of its WHERE reads the view's own table.
_MYSQL_SESSIONS = """
CREATE SQL SECURITY INVOKER VIEW cascade_sessions_full AS
SELECT s.session_id, s.cascade_id,
       (SELECT CONVERT(d.body USING utf8mb4) FROM cascade_definitions d WHERE d.digest = s.definition_digest)
           AS cascade_definition,
       s.definition_digest AS definition_sha256, s.input_data, s.config_path, s.created_at,
       s.parent_session_id, s.depth
FROM cascade_sessions s
WHERE EXISTS (SELECT 1 FROM cascade_sessions)
"""

# Messages are put together as text: a `content` that is no JSON spoils its own conversation only. `extra` is a JSON
# object: without its opening brace it continues the message's own.
_PG_STATES = """
CREATE VIEW session_states_full AS
SELECT h.id, h.session_id, h.mode,
       (SELECT '[' || coalesce(string_agg('{"role":' || to_json(m.role)::text || ',"content":' || m.content
            || coalesce(',' || substr(m.extra, 2), '}'), ',' ORDER BY m.seq), '') || ']'
        FROM session_messages m WHERE m.session_id = h.session_id) AS conversation_history,
       h.context_variables, h.plan_data, h.current_phase, h.current_step, h.status,
       h.created_at, h.updated_at, h.expires_at, h.version
FROM session_states h JOIN cascade_sessions s ON s.session_id = h.session_id
"""

_SQLITE_STATES = """
CREATE VIEW session_states_full AS
SELECT h.id, h.session_id, h.mode,
       (SELECT '[' || coalesce(group_concat(m.message, ','), '') || ']' FROM (
            SELECT '{"role":' || json_quote(role) || ',"content":' || content
                || coalesce(',' || substr(extra, 2), '}') AS message
            FROM session_messages WHERE session_id = h.session_id ORDER BY seq) m) AS conversation_history,
       h.context_variables, h.plan_data, h.current_phase, h.current_step, h.status,
       h.created_at, h.updated_at, h.expires_at, h.version
FROM session_states h
"""

_MYSQL_STATES = """
CREATE SQL SECURITY INVOKER VIEW session_states_full AS
SELECT h.id, h.session_id, h.mode,
       (SELECT <messages> FROM session_messages m WHERE m.session_id = h.session_id) AS conversation_history,
       h.context_variables, h.plan_data, h.current_phase, h.current_step, h.status,
       h.created_at, h.updated_at, h.expires_at, h.version
FROM session_states h
WHERE EXISTS (SELECT 1 FROM session_states)
"""

_MARIADB_MESSAGES = """
CONCAT('[', COALESCE(GROUP_CONCAT(CONCAT('{"role":', JSON_QUOTE(m.role), ',"content":', m.content,
    COALESCE(CONCAT(',', SUBSTR(m.extra, 2)), '}')) ORDER BY m.seq SEPARATOR ','), ''), ']')
"""

# MySQL cuts a GROUP_CONCAT after 1 KB. Its JSON_ARRAYAGG knows no order; rows come in that of the primary key.
_MYSQL_MESSAGES = """
COALESCE(JSON_ARRAYAGG(JSON_MERGE_PRESERVE(JSON_OBJECT('role', m.role, 'content', CAST(m.content AS JSON)),
    COALESCE(CAST(m.extra AS JSON), JSON_OBJECT()))), JSON_ARRAY())
"""
