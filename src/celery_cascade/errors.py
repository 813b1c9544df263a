"""Every error that a user can meet: what happened, which id, and the next command (R150).

`exit_code` is what the command line ends with (DESIGN.md section 7).
"""

from __future__ import annotations

import os
import shlex

from celery.exceptions import TimeoutError as CeleryTimeoutError

from celery_cascade.calling import spelled


class CascadeError(Exception):
    """Base of all our errors.

    Args:
        message: what is wrong, with the id or value it is about.
        hint: the next command or change that helps; shown on a line of its own. Without one, `cure` of the class.
    """

    exit_code = 1
    cure = "See what is wrong with: cascade doctor"

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self._hint = hint

    @property
    def hint(self) -> str:
        """What helps; commands are written as they can be pasted, for the app of this process."""
        return spelled(self._hint or self.cure)

    def __str__(self) -> str:
        return f"{self.message}\n{self.hint}" if self.hint else self.message


class ConfigError(CascadeError):
    """A setting is wrong, alone or together with another."""

    exit_code = 2
    cure = "See every setting, and where it comes from: cascade doctor --settings"


class UsageError(CascadeError):
    """The call or command line does not make sense as written."""

    exit_code = 2
    cure = "See what there is: cascade --help"


class SessionNotFound(CascadeError):
    """No session has this id."""

    exit_code = 3
    cure = "List them with: cascade ls"


class SessionConflict(CascadeError):
    """The id is taken, or the session is in a state that forbids this."""

    exit_code = 4


class StaleState(SessionConflict):
    """Somebody else changed the session since it was read; read it again and retry (R38)."""


class NotResumable(CascadeError):
    """The session has ended, or its store does not let it go on."""

    exit_code = 5


class DefinitionError(CascadeError):
    """A cascade file does not say something that can be run.

    Args:
        message: `file:line:column: what`, where it is about a place.
        hint: as for every error.
        file: as shown; None = not about a place.
        line: from 1.
        column: from 1, in characters.
        excerpt: the line of the file, and a caret under the place.
    """

    exit_code = 6
    cure = "See how cascade files are written: cascade schema"

    def __init__(
        self,
        message: str,
        *,
        hint: str = "",
        file: str | None = None,
        line: int | None = None,
        column: int | None = None,
        excerpt: str = "",
    ) -> None:
        super().__init__(message, hint=hint)
        self.file = file
        self.line = line
        self.column = column
        self.excerpt = excerpt

    @property
    def hint(self) -> str:
        """Of an error about a place: how to look at the whole file."""
        if self._hint or not self.file or not os.path.isfile(self.file):
            return super().hint
        return spelled(f"Check it with: cascade validate {shlex.quote(self.file)}")

    def __str__(self) -> str:
        return "\n".join(part for part in (self.message, self.excerpt, self.hint) if part)


class DefinitionNotFound(DefinitionError):
    """There is no such cascade file, and no cascade is registered by this name."""

    exit_code = 3


class InputError(CascadeError):
    """The inputs of a start do not fit what the cascade declares."""

    exit_code = 6
    cure = "See how inputs are given: cascade run --help"


class TemplateError(CascadeError):
    """A `{{ template }}` asks for something that is not there, or for too much."""

    exit_code = 6
    cure = "See how cascade files are written: cascade schema"


class NotSerializable(CascadeError):
    """A value cannot be written as JSON and read back equal; names the path to it (R84)."""

    exit_code = 6


class PayloadTooLarge(CascadeError):
    """A value is over `cascade_max_payload_bytes`; names step, size and limit (R83)."""

    exit_code = 6
    cure = "See the limit: cascade doctor --settings"


class StoreUnavailable(CascadeError):
    """The database does not answer, or cannot be used as things are.

    Args:
        message, hint: as for every error.
        lasting: waiting will not help (a wrong password, a folder that cannot be written): who has begun nothing yet
            is told at once. A finished step waits all the same: somebody may mend it.
    """

    exit_code = 69

    def __init__(self, message: str, *, hint: str = "", lasting: bool = False) -> None:
        super().__init__(message, hint=hint)
        self.lasting = lasting


class StoreError(CascadeError):
    """The store is there but not usable: not migrated, of another version, or corrupt."""

    exit_code = 7


class StoreDamaged(StoreError):
    """The SQLite file of the store is damaged. Nothing is written to it any more (D4)."""


class SchemaOutOfDate(StoreError):
    """The tables are missing, older, or newer than this version of the code needs."""


class SessionFailed(CascadeError):
    """`result()` of a session that failed, was cancelled or expired; bears the step's error."""

    exit_code = 1


class SessionTimeout(CascadeError, CeleryTimeoutError):
    """`result(timeout=)` waited that long; the session itself goes on. Celery's `TimeoutError` as well."""

    exit_code = 124


class ClaimLost(CascadeError):
    """Another worker owns the step by now; what this one produced is refused (rule 2)."""
