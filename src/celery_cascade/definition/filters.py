"""The filters and tests that templates may use: Jinja2's names and meaning, plain values, sizes counted."""

from __future__ import annotations

from celery_cascade.definition import text_filters  # noqa: F401  -- its filters enter themselves
from celery_cascade.definition.filter_parts import FILTERS, Function, as_text, counted, default
from celery_cascade.definition.list_filters import TESTS

__all__ = ["FILTERS", "TESTS", "Function", "as_text", "counted"]

FILTERS["default"] = FILTERS["d"] = default
FILTERS["count"] = FILTERS["length"]
