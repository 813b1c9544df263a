"""Why the demo ends early."""

from __future__ import annotations


class DemoFailed(Exception):
    """Something that the demo shows did not happen, or not in time."""
