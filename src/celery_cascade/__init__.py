"""Durable sessions for Celery: multi-step work that goes on by itself whatever dies."""

from celery_cascade.__about__ import __version__
from celery_cascade.app import Cascades, run_cascade
from celery_cascade.config import Retention
from celery_cascade.errors import CascadeError
from celery_cascade.sessions.current import current_session
from celery_cascade.sessions.session import Session
from celery_cascade.states import SessionStatus, StepStatus, SuspendReason

__all__ = [
    "CascadeError",
    "Cascades",
    "Retention",
    "Session",
    "SessionStatus",
    "StepStatus",
    "SuspendReason",
    "__version__",
    "current_session",
    "run_cascade",
]
