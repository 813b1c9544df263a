"""Definitions: bytes to a checked `Cascade`, templates, inputs. Pure: knows no SQL, no Celery, no clock."""

from celery_cascade.definition.cascade import Cascade, RetryPolicy, Source, Step
from celery_cascade.definition.inputs import check_inputs
from celery_cascade.definition.places import Warning_
from celery_cascade.definition.plan import Plan, make_plan
from celery_cascade.definition.reader import read_cascade, read_with_warnings
from celery_cascade.definition.source import from_bytes, from_mapping, from_text, read_file
from celery_cascade.definition.templates import names_of, render

__all__ = [
    "Cascade",
    "Plan",
    "RetryPolicy",
    "Source",
    "Step",
    "Warning_",
    "check_inputs",
    "from_bytes",
    "from_mapping",
    "from_text",
    "make_plan",
    "names_of",
    "read_cascade",
    "read_file",
    "read_with_warnings",
    "render",
]
