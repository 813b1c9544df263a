"""The exit codes that no error bears (DESIGN.md section 7); the others are the `exit_code` of `errors`."""

from __future__ import annotations

DONE = 0
FAILED = 1  #: the session failed, was cancelled or expired; or a check found something wrong
USAGE = 2
INVALID = 6  #: a definition or input
STORE = 7  #: missing, out of date or damaged
WAITING = 8  #: the session is suspended: somebody or something else has to act first
UNREACHABLE = 69  #: broker or database; sysexits' EX_UNAVAILABLE, as Celery's own commands
INTERRUPTED = 130
