"""What `doctor` looks at: each check says what is so, and what to do about it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from kombu.exceptions import KombuError
from kombu.utils.url import maybe_sanitize_url

from celery_cascade import embedded
from celery_cascade.cli import checks_running
from celery_cascade.cli.caller import Caller
from celery_cascade.cli.exits import FAILED, STORE, UNREACHABLE, USAGE
from celery_cascade.cli.findings import Check
from celery_cascade.cli.living import HERE, living
from celery_cascade.cli.words import counted, took
from celery_cascade.config import doubts_in, problems_in
from celery_cascade.errors import CascadeError
from celery_cascade.persistence import migrate, sqlite_file, surroundings
from celery_cascade.persistence.database_dialects import SQL_ERRORS, shown
from celery_cascade.persistence.rows import WorkerRow
from celery_cascade.persistence.store import Store
from celery_cascade.persistence.views import SessionFilter
from celery_cascade.states import SessionStatus, SuspendReason
from celery_cascade.tasks.guard import unguarded
from celery_cascade.tasks.runtime import Runtime

#: Seconds that the broker has to answer, and other workers to say what they consume.
PATIENCE = 3.0
_REFUSALS = (403, 530)  #: AMQP's ACCESS_REFUSED and NOT_ALLOWED
_NO_TASKS = "Import the modules that define them, or set `include` of the Celery app"


def settings(runtime: Runtime) -> list[Check]:
    """Every wrong setting at once."""
    conf = runtime.app.conf
    wrong = problems_in(conf)
    if wrong:
        return [Check(name="settings", message=problem, state="error", code=USAGE) for problem in wrong]
    doubts = [Check(name="settings", message=doubt, state="warning") for doubt in doubts_in()]
    return [Check(name="settings", message="every cascade_ setting can be used"), *doubts]


def store(runtime: Runtime) -> list[Check]:
    """Whether the database answers, has our tables (R51), and is sound; files are told with all of their path."""
    try:
        database = runtime.open_database()
    except CascadeError:
        return _look(runtime)  # it says why
    file = database.file
    written = database.url.database  # `file` is where that leads from here
    if file is None or written is None or os.path.isabs(written):
        return _look(runtime)
    whole = shown(database.url.set(database=os.path.abspath(written)))
    found = [replace(check, message=check.message.replace(database.shown, whole)) for check in _look(runtime)]
    relative = Check(
        name="store",
        message=f"{database.shown} is relative to the working directory: each directory has a store of its own",
        hint=f"In cascade_database_url (or CELERY_CASCADE_DATABASE_URL) write {whole}",
        state="warning",
    )
    return [*found, relative]


def _look(runtime: Runtime) -> list[Check]:
    try:
        found = runtime.store
        found.probe()
        counts, file = found.open_counts(), found.database.file
    except CascadeError as error:
        code = error.exit_code if error.exit_code in (STORE, UNREACHABLE) else USAGE
        return [Check(name="store", message=error.message, hint=_cure(error), state="error", code=code)]
    damage = [] if file is None else sqlite_file.damage(file)
    if damage:
        said = f"the store {found.database.shown} is damaged: {damage[0]}"
        return [Check(name="store", message=said, hint="Run: cascade doctor --fix", state="error", code=STORE)]
    told = f"DB OK: {found.database.shown}, schema {migrate.head()}, {counted(sum(counts.values()), 'session')}"
    return [Check(name="store", message=f"{told}, store id {runtime.store_id}"), *values(found)]


def _cure(error: CascadeError) -> str:
    """The hint without "ask doctor": this is doctor."""
    lines = [line for line in error.hint.splitlines() if not line.endswith("cascade doctor")]
    return "\n".join(lines)


def values(found: Store) -> list[Check]:
    """Stored values that cannot be read (R121); none is no news."""
    bad = found.unreadable()
    if not bad:
        return []
    told = "; ".join(str(value) for value in bad[:5]) + (f"; and {len(bad) - 5} more" if len(bad) > 5 else "")
    session = next((value.session for value in bad if value.session), None) or "ID"
    return [
        Check(
            name="values",
            message=f"{counted(len(bad), 'stored value')} cannot be read: {told}",
            hint=f"All other sessions go on. Put the value right with a SQL client, then: cascade resume {session}\n"
            f"or end that session: cascade cancel {session}",
            state="error",
            code=STORE,
        )
    ]


def waiting(runtime: Runtime) -> list[Check]:
    """Sessions that wait for an operator because of a worker's death; none is no news."""
    reasons = [SuspendReason.IN_DOUBT.value, SuspendReason.POISONED.value]
    wanted = SessionFilter(status=[SessionStatus.SUSPENDED.value], reason=reasons, limit=5)
    rows = runtime.store.sessions(wanted)
    if not rows:
        return []
    count = runtime.store.count(wanted)
    some = ", ".join(f"{row['session_id']} ({row['status_reason']})" for row in rows)
    more = f", and {count - len(rows):,} more" if count > len(rows) else ""
    return [
        Check(
            name="waiting",
            message=f"{counted(count, 'session')} waiting for an operator: {some}{more}",
            hint=f"See what happened, and what can be answered: cascade show {rows[0]['session_id']}",
            state="warning",
        )
    ]


def around(runtime: Runtime) -> list[Check]:
    """What is around our tables; a store that is damaged in the middle may show it only here."""
    try:
        return [*references(runtime), *neighbours(runtime), *json_functions(runtime), *waiting(runtime)]
    except CascadeError as error:
        return [Check(name="tables", message=error.message, hint=_cure(error), state="error", code=error.exit_code)]


def references(runtime: Runtime) -> list[Check]:
    """What a foreign key says when it fails, and whether one was broken (R54)."""
    database = runtime.store.database
    types = set(surroundings.session_id_types(database).values())
    lost = surroundings.lost_rows(database)
    if lost:
        told = ", ".join(f"{counted(count, 'row')} of {table}" for table, count in sorted(lost.items()))
        return [
            Check(
                name="references",
                message=f"{told} without what they refer to: somebody deleted it without PRAGMA foreign_keys = ON",
                hint="Such rows can be deleted: DELETE FROM session_states WHERE session_id NOT IN "
                "(SELECT session_id FROM cascade_sessions), and likewise the other tables",
                state="warning",
            )
        ]
    if len(types) > 1:
        return [
            Check(
                name="references",
                message=f"session_id has different types ({', '.join(sorted(types))}): somebody altered our tables",
                hint="Restore them from a backup; a foreign key between different types may fail",
                state="error",
                code=STORE,
            )
        ]
    return [
        Check(
            name="references",
            message=f"every row has its session; session_id is {types.pop()} everywhere",
            hint='"FOREIGN KEY constraint failed" in SQL of your own: no cascade_sessions row has that session_id; '
            "insert it first",
        )
    ]


def neighbours(runtime: Runtime) -> list[Check]:
    """Tables of others beside ours: their Alembic has to be told (R160)."""
    found = surroundings.foreign_tables(runtime.store.database)
    if not found:
        return []
    some = ", ".join(found[:5]) + (", …" if len(found) > 5 else "")
    history = "and an Alembic history " if surroundings.HOSTS_VERSION_TABLE in found else ""
    return [
        Check(
            name="tables",
            message=f"{counted(len(found), 'other table')} {history}in the same place: {some}",
            hint="So that their Alembic does not drop ours, in its env.py: context.configure(…, "
            "include_object=celery_cascade.migrations.include_object)",
        )
    ]


def json_functions(runtime: Runtime) -> list[Check]:
    """An SQLite without JSON (R55)."""
    if not surroundings.lacks_json(runtime.store.database):
        return []
    return [
        Check(
            name="json",
            message="this SQLite was built without JSON functions; sessions do not need them, as values are kept as "
            "text, but the view session_states_full cannot be read",
            hint="Read session_states and session_messages instead, or use a Python with SQLite 3.38 or later",
            state="warning",
        )
    ]


def broker(runtime: Runtime) -> list[Check]:
    """Whether the broker answers, and is one that can be used."""
    app = runtime.app
    try:
        embedded.refuse_unsafe_broker(app)
        embedded.refuse_broken_broker(app)
    except CascadeError as error:
        return [Check(name="broker", message=error.message, hint=error.hint, state="error", code=error.exit_code)]
    url = maybe_sanitize_url(str(app.conf.broker_url or app.conf.broker_write_url))
    try:
        connection = app.connection_for_write(connect_timeout=PATIENCE)
        connection.transport_cls, connection.transport  # noqa: B018  imports the client
    except (ImportError, KeyError) as error:
        scheme = url.partition(":")[0]
        return [
            Check(
                name="broker",
                message=f"the client for {scheme}:// is not installed: {error}",
                hint=f"Run: pip install 'celery[{scheme}]'",
                state="error",
                code=USAGE,
            )
        ]
    with connection:
        url = connection.as_uri()
        try:
            connection.ensure_connection(max_retries=1, interval_start=0, timeout=PATIENCE)
        except _errors_of(connection) as error:
            return [_unusable(url, error)]
    file = embedded.broker_file(app)
    missing = file is not None and not file.exists()
    told = "its file is not there yet, and is made with the first message" if missing else "answers"
    return [Check(name="broker", message=f"{url}{': ' if missing else ' '}{told}")]


def _errors_of(connection: Any) -> tuple[type[BaseException], ...]:
    """What a transport raises when the broker is not there, or refuses us; each has classes of its own."""
    return (*connection.connection_errors, *connection.channel_errors, OSError, KombuError, *SQL_ERRORS)


def _unusable(url: str, error: BaseException) -> Check:
    refused = getattr(error, "code", None) in _REFUSALS
    return Check(
        name="broker",
        message=f"the broker {url} {'refuses us' if refused else 'does not answer'}: {error or type(error).__name__}",
        hint="Look at user, password and virtual host in broker_url, and at the user's rights; what was started waits "
        "in the store"
        if refused
        else "Start it, or set broker_url to where it is; what was started waits in the store",
        state="error",
        code=UNREACHABLE,
    )


def workers(runtime: Runtime, found: Iterable[WorkerRow], caller: Caller) -> list[Check]:
    """Who is alive."""
    told = [
        Check(name="worker", message=f"{row.nodename}, pid {row.pid}, {row.pool}, heard {took(row.silent_for)} ago")
        for row in found
    ]
    if not any(row.pool != HERE for row in found):
        hint = f"Start one with: {caller.worker_command}"
        told.append(Check(name="workers", message="there is no living worker", hint=hint, state="warning"))
    return told


def own_tasks(runtime: Runtime) -> list[str]:
    """The tasks that a cascade file may name, without Celery's and ours."""
    return sorted(name for name in runtime.app.tasks if not name.startswith(("celery.", "celery_cascade.")))


def guard(runtime: Runtime) -> list[Check]:
    """Whether every task would be recognised when it runs as a step."""
    bare = unguarded(runtime.app)
    if not bare:
        count = len(own_tasks(runtime))
        told = "no task is registered yet" if not count else f"{counted(count, 'task')}, each of them guarded"
        return [Check(name="guard", message=told, state="ok" if count else "warning", hint="" if count else _NO_TASKS)]
    return [
        Check(
            name="guard",
            message=f"not guarded, so that a step of it would not be checkpointed: {', '.join(bare)}",
            hint="Make `cascades = Cascades(app)` right after the app, before the tasks are defined",
            state="error",
            code=FAILED,
        )
    ]


def queues(runtime: Runtime, found: Iterable[WorkerRow]) -> list[Check]:
    """Queues that workers of no row in this store consume: of another store, or without the plugin (R158).

    Only a broker with broadcast lets us ask; workers on others are not known.
    """
    ours = {row.nodename for row in found}
    strange: dict[str, list[str]] = {}
    for nodename, consumed in _consumers(runtime.app).items():
        if nodename not in ours:
            for queue in consumed:
                strange.setdefault(queue["name"], []).append(nodename)
    mine = {runtime.app.conf.task_default_queue, runtime.config.queue}
    for row in found:
        mine.update(json.loads(row.queues or "[]"))
    return [
        Check(
            name="queue",
            message=f"queue {queue!r} is also consumed by {', '.join(sorted(nodes))}, which is no worker of this store",
            hint="Give it the same store (cascade_database_url), or each store a queue of its own (cascade_queue); "
            "until then it drops our messages and they are sent again later",
            state="warning",
        )
        for queue, nodes in sorted(strange.items())
        if queue in mine
    ]


def _consumers(app: Any) -> dict[str, list[dict[str, Any]]]:
    with app.connection_for_read() as connection:
        if "fanout" not in connection.transport.implements.exchange_type:
            return {}
    found: dict[str, list[dict[str, Any]]] | None = app.control.inspect(timeout=1.0).active_queues()
    return found or {}


def every(runtime: Runtime, caller: Caller) -> list[Check]:
    """All checks; those that need what is broken are left out."""
    found = settings(runtime)
    if any(check.state == "error" for check in found):
        return found
    found += [*store(runtime), *broker(runtime), *guard(runtime)]
    broken = {check.name for check in found if check.state == "error"}
    if "store" not in broken:
        found += around(runtime)
        alive = living(runtime)
        found += [*workers(runtime, alive, caller), *checks_running.tasks(runtime, alive)]
        found += checks_running.recovery(runtime, alive, caller)
        if "broker" not in broken:
            found += queues(runtime, alive)
    return found
