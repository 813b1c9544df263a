"""The command line: `celery -A proj cascade …`, and the same as `cascade -A proj …`.

Data goes to stdout, words to stderr; each verb has a module of its own.
"""

from celery_cascade.cli.group import cascade, main

__all__ = ["cascade", "main"]
