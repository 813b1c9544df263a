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
    _write(record, runtime.secret_keys, Scrubber(_known(runtime, ref.session, request)))


def _known(runtime: Runtime, session: str, request: Any) -> set[str]:
    """The secrets in the arguments of the step that runs, in the inputs of its session, and of what that comes from."""
    given = [list(request.args or ()), request.kwargs or {}, runtime.inputs_at_hand(session)]
    return secrets_in(given, runtime.secret_keys) | runtime.inherited_secrets(session)


def _write(record: logging.LogRecord, keys: Keys, scrubber: Scrubber) -> None:
    def clean(text: str) -> str:
        return scrubber.text(redacted_words(text, keys))

    record.msg, record.args = clean(record.getMessage()), None
    data = getattr(record, "data", None)  # what Celery hands to handlers that write JSON
    if isinstance(data, dict):
        record.data = {key: clean(value) if isinstance(value, str) else value for key, value in data.items()}
    if isinstance(record.exc_info, tuple) and record.exc_text is None:
        record.exc_text = clean("".join(traceback.format_exception(*record.exc_info)).rstrip())


def _empty(record: logging.LogRecord) -> None:
    record.msg, record.args, record.exc_info = "[a line that could not be looked through for secrets]", None, None
