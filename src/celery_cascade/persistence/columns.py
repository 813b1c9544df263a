"""What lists and looks show of a session: its columns without inputs, outputs and other payloads."""

from __future__ import annotations

from celery_cascade.persistence.tables import heads, sessions

HEAD_COLUMNS = (
    heads.c.mode,
    heads.c.status,
    heads.c.status_reason,
    heads.c.halt,
    heads.c.current_phase,
    heads.c.current_step,
    heads.c.open_steps,
    heads.c.total_steps,
    heads.c.version,
    heads.c.pinned,
    heads.c.started_at,
    heads.c.updated_at,
    heads.c.finished_at,
    heads.c.expires_at,
)
SESSION_COLUMNS = (
    sessions.c.session_id,
    sessions.c.cascade_id,
    sessions.c.name,
    sessions.c.definition_digest,
    sessions.c.definition_format,
    sessions.c.config_path,
    sessions.c.parent_session_id,
    sessions.c.root_session_id,
    sessions.c.depth,
    sessions.c.forked_from,
    sessions.c.forked_step,
    sessions.c.forked_version,
    sessions.c.continues,
    sessions.c.thread_id,
    sessions.c.resource_id,
    sessions.c.turn,
    sessions.c.execution_key,
    sessions.c.tags,
    sessions.c.trigger,
    sessions.c.created_at,
)
