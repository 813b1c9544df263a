"""Hiding secrets by the names of their keys (R145): in data, and in text where they stand again. Pure.

A key is secret if the words of a pattern stand in it one after the other, whatever its spelling: `api_key` finds
`apiKey`, `X-Api-Key` and `my_api_key_2`, and `token` does not find `max_tokens`. A pattern with `*` or `?` is compared
with the whole key.
"""

from celery_cascade.redaction.data import redacted, secrets_in, secrets_in_text
from celery_cascade.redaction.keys import Keys
from celery_cascade.redaction.scrubber import Scrubber, scrub
from celery_cascade.redaction.text import HIDDEN, redacted_words, without_logins

__all__ = [
    "HIDDEN",
    "Keys",
    "Scrubber",
    "redacted",
    "redacted_words",
    "scrub",
    "secrets_in",
    "secrets_in_text",
    "without_logins",
]
