"""Log lines about steps without their secrets (R145): Celery's own, which show what a task gave and how it failed, and
ours.

A filter of the loggers, so it costs the records of other tasks one comparison, and nothing at all where no record is
made. What handlers do with `exc_info` by themselves (Sentry, say) it does not reach.
"""

from __future__ import annotations

import logging
import traceback
from typing import Any

from celery import _state

from celery_cascade.calling import real_app
from celery_cascade.redaction import Keys, Scrubber, redacted_words, secrets_in
from celery_cascade.redaction.data import SHORTEST_TEXT
from celery_cascade.tasks.runtime import Runtime, runtime_of
from celery_cascade.tasks.signals import ref_in

#: Celery's lines about tasks; and ours.
CELERYS, OURS = "celery.app.trace", ("celery_cascade", "celery_cascade.tasks")


def connect() -> None:
    """From now on. Once in a process, however many apps."""
    logging.getLogger(CELERYS).addFilter(_of_steps)
    for name in OURS:
        logging.getLogger(name).addFilter(_of_ours)


def _of_steps(record: logging.LogRecord) -> bool:
    task = _state.get_current_task()
    if task is not None:
        try:
            _hide(record, task.app, task.request)
        except Exception:  # noqa: BLE001  a line with too little in it is better than none, and than a failing task
            _empty(record)
    return True


def _of_ours(record: logging.LogRecord) -> bool:
    try:
        runtime = runtime_of(real_app(_state.get_current_app()))
        if runtime is not None and "config" in runtime.__dict__ and runtime.secret_keys:
            _write(record, runtime.secret_keys, Scrubber(()))
    except Exception:  # noqa: BLE001  likewise
        _empty(record)
    return True


def _hide(record: logging.LogRecord, app: Any, request: Any) -> None:
    ref = ref_in(request.headers, request.id)
    runtime = None if ref is None else runtime_of(app)
    if ref is None or runtime is None or not runtime.secret_keys:
        return
    scrubber = Scrubber(()) if _says_little(record) else _scrubber(runtime, ref.session, request)
    _write(record, runtime.secret_keys, scrubber)


#: What Celery's lines say besides what a task gave or was given; and a result that is no secret.
_CELERYS_OWN, _NOTHING = frozenset({"name", "id", "runtime"}), frozenset({"None", "True", "False"})


def _says_little(record: logging.LogRecord) -> bool:
    """Whether it is one of Celery's with nothing in it that a secret fits into: arguments need no look then."""
    data = getattr(record, "data", None)
    if not isinstance(data, dict) or record.exc_info:
        return False
    said = [str(value) for key, value in data.items() if key not in _CELERYS_OWN]
    return all(len(text) < SHORTEST_TEXT or text in _NOTHING for text in said)


def _scrubber(runtime: Runtime, session: str, request: Any) -> Scrubber:
    """Of the secrets in the arguments of the step that runs, and in the inputs of its session and of its forebears."""
    of_inputs = runtime.scrubber_at_hand(session)
    given = secrets_in([list(request.args or ()), request.kwargs or {}], runtime.secret_keys)
    return of_inputs if given <= of_inputs.secrets else Scrubber(of_inputs.secrets | given)


def _write(record: logging.LogRecord, keys: Keys, scrubber: Scrubber) -> None:
    message, trace, data = record.getMessage(), None, getattr(record, "data", None)
    if isinstance(record.exc_info, tuple) and record.exc_text is None:
        trace = "".join(traceback.format_exception(*record.exc_info)).rstrip()
    values = data if isinstance(data, dict) else {}  # what Celery hands to handlers that write JSON
    texts = [text for text in (message, trace, *values.values()) if isinstance(text, str)]
    there = scrubber.within("\n".join(texts))

    def clean(text: Any) -> Any:
        return there.text(redacted_words(text, keys)) if isinstance(text, str) else text

    record.msg, record.args = clean(message), None
    if isinstance(data, dict):
        record.data = {key: clean(value) for key, value in data.items()}
    if trace is not None:
        record.exc_text = clean(trace)


def _empty(record: logging.LogRecord) -> None:
    record.msg, record.args, record.exc_info = "[a line that could not be looked through for secrets]", None, None
