"""What the edges show of a session is without its secrets (R145): by the keys that `cascade_redact` names.

Whatever shows something of a session to people goes through one of these: `hiding_of(runtime, id).view(…)` for all that
is told of a session, `.data(…)` for data, `.text(…)` for words. Raw values are for programs: `session.inputs`,
`.output`, `.steps`, `.context`, and SQL.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from celery_cascade.definition.cascade import Source
from celery_cascade.definition.plan import Plan
from celery_cascade.errors import CascadeError
from celery_cascade.redaction import Keys, Scrubber, redacted, redacted_words, secrets_in, secrets_in_text
from celery_cascade.redaction.data import SHORTEST_TEXT
from celery_cascade.tasks.runtime import Runtime

#: Of a view: where words of people stand, and the lists of what has such words in turn.
_SAID = frozenset({"name", "reason", "topic", "what", "tags", "actions", "steps"})


class Hiding:
    """Hides what stands under secret keys, and the same values wherever else they stand.

    Args:
        keys: the secret ones.
        texts: JSON texts in which secrets may stand.
        plans: whose constants may be secrets.
    """

    def __init__(self, keys: Keys, texts: Iterable[str] = (), plans: Iterable[Plan] = ()) -> None:
        self._keys = keys
        found = {secret for text in texts for secret in secrets_in_text(text, keys)}
        self._scrubber = Scrubber(found.union(*(_constants(plan, keys) for plan in plans)))

    def data(self, value: Any) -> Any:
        """JSON-ready data, of which nothing is changed but copied."""
        return self._scrubber.data(self._errors(redacted(value, self._keys))) if self._keys else value

    def view(self, view: Any) -> Any:
        """One of our views of a session, or a list of such: as `data`, and the words that people left are words."""
        return self._said(self.data(view)) if self._keys else view

    def text(self, text: str) -> str:
        """Words for people: a message, a traceback."""
        return redacted_words(self._scrubber.text(text), self._keys) if self._keys else text

    def values(self, value: Any) -> Any:
        """Data or a text without the secrets that are known; a definition's own words stay, whatever their key."""
        return self._scrubber.data(value)

    def _said(self, view: Any) -> Any:
        """Why something was done, and what it was called, may say `password=…`, too."""
        if isinstance(view, str):
            return redacted_words(view, self._keys)
        if isinstance(view, list):
            return [self._said(one) for one in view]
        if isinstance(view, Mapping):
            return {key: self._said(part) if key in _SAID else part for key, part in view.items()}
        return view

    def _errors(self, value: Any) -> Any:
        """The messages of errors are words, which may say `password=…`."""
        if isinstance(value, Mapping):
            found = {key: self._errors(part) for key, part in value.items()}
            if isinstance(found.get("type"), str) and isinstance(found.get("message"), str):
                found["message"] = redacted_words(found["message"], self._keys)
            return found
        return [self._errors(part) for part in value] if isinstance(value, list) else value


def hiding_of(runtime: Runtime, *session_ids: str, sources: Iterable[Source] = ()) -> Hiding:
    """The hiding of one session, or of several that are shown together, and of definitions beside them.

    What is secret in a session that they come from (an earlier turn, the origin of a fork) is secret in them, too:
    a message or an output may repeat it in words.
    """
    keys = runtime.secret_keys
    if not keys:
        return Hiding(keys)
    line = runtime.store.with_forebears(session_ids)
    plans = []
    for digest in set(line.values()) - {None}:
        with suppress(CascadeError):  # no definition that could be read has no constants, either
            plans.append(runtime.plan(str(digest)))
    for source in sources:
        with suppress(CascadeError):
            plans.append(runtime.plan_of(source))
    return Hiding(keys, runtime.store.payloads(line), plans)


@contextmanager
def hiding_in_errors(runtime: Runtime, *texts: str) -> Iterator[None]:
    """What is raised in here shows none of the secrets in these JSON texts."""
    try:
        yield
    except CascadeError as error:
        error.message = Hiding(runtime.secret_keys, texts).text(error.message)
        error.args = (error.message,)
        raise


def by_keys(runtime: Runtime) -> Hiding:
    """For lists: by keys alone, no payload is read for it."""
    return Hiding(runtime.secret_keys)


def _constants(plan: Plan, keys: Keys) -> set[str]:
    """What a definition itself says under secret keys; each line of it, too. Templates are none."""
    defaults = {name: schema["default"] for name, schema in (plan.cascade.inputs or {}).items() if "default" in schema}
    found = secrets_in([*(step.arguments for step in plan.steps.values()), defaults, plan.cascade.output], keys)
    found = {text for text in found if "{{" not in text}
    return found | {line.strip() for text in found for line in text.splitlines() if len(line.strip()) >= SHORTEST_TEXT}
