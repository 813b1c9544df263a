"""What the edges show of a session is without its secrets (R145): by the keys that `cascade_redact` names.

Whatever shows something of a session to people goes through one of these: `hiding_of(runtime, id).data(…)` for data,
`.text(…)` for words. Raw values are for programs: `session.inputs`, `.output`, `.steps`, `.context`, and SQL.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from celery_cascade.redaction import Keys, Scrubber, redacted, redacted_words, secrets_in
from celery_cascade.tasks.runtime import Runtime


class Hiding:
    """Hides what stands under secret keys, and the same values wherever else they stand.

    Args:
        keys: the secret ones.
        texts: JSON texts in which secrets may stand.
    """

    def __init__(self, keys: Keys, texts: Iterable[str] = ()) -> None:
        self._keys = keys
        self._scrubber = Scrubber({secret for text in texts for secret in _secrets(text, keys)})

    def data(self, value: Any) -> Any:
        """JSON-ready data, of which nothing is changed but copied."""
        return self._scrubber.data(self._errors(redacted(value, self._keys))) if self._keys else value

    def text(self, text: str) -> str:
        """Words for people: a message, a traceback."""
        return self._scrubber.text(redacted_words(text, self._keys)) if self._keys else text

    def _errors(self, value: Any) -> Any:
        """The messages of errors are words, which may say `password=…`."""
        if isinstance(value, Mapping):
            found = {key: self._errors(part) for key, part in value.items()}
            if isinstance(found.get("type"), str) and isinstance(found.get("message"), str):
                found["message"] = redacted_words(found["message"], self._keys)
            return found
        return [self._errors(part) for part in value] if isinstance(value, list) else value


def hiding_of(runtime: Runtime, *session_ids: str) -> Hiding:
    """The hiding of one session, or of several that are shown together."""
    keys = runtime.secret_keys
    if not keys:
        return Hiding(keys)
    return Hiding(keys, (text for one in session_ids for text in runtime.store.payloads(one)))


def by_keys(runtime: Runtime) -> Hiding:
    """For lists: by keys alone, no payload is read for it."""
    return Hiding(runtime.secret_keys)


def _secrets(text: str, keys: Keys) -> set[str]:
    if not keys.may_be_in(text):
        return set()
    try:
        return secrets_in(json.loads(text), keys)
    except (ValueError, RecursionError):  # damaged: what shows it says so
        return set()
