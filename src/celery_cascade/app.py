"""`Cascades(app)` and `run_cascade(...)`: where the parts are joined."""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from celery import Celery, current_app

from celery_cascade import calling
from celery_cascade.definition.cascade import OnCrash, RetryPolicy
from celery_cascade.definition.policies import step_policy
from celery_cascade.embedded import home_of, refuse_unsafe_broker
from celery_cascade.errors import ConfigError, UsageError
from celery_cascade.persistence.finding import SessionFilter
from celery_cascade.persistence.orm_session import StoreSession, db_session
from celery_cascade.sessions import capture
from celery_cascade.sessions.bulk import BulkReport, bulk
from celery_cascade.sessions.finding import Moment, session_filter
from celery_cascade.sessions.ids import look_up_id, words_of
from celery_cascade.sessions.page import Page
from celery_cascade.sessions.plain import start_plain, store_usable
from celery_cascade.sessions.prune import PruneReport, cleanup_old_sessions, prune
from celery_cascade.sessions.registry import last_of, path_of
from celery_cascade.sessions.sending import send
from celery_cascade.sessions.session import Session
from celery_cascade.sessions.starting import StartOptions, Target, read_target, start, start_options
from celery_cascade.sessions.threads import Threads
from celery_cascade.sessions.versions import versions_of
from celery_cascade.tasks import jobs, propagate, quiet, signals, worker
from celery_cascade.tasks.decorating import decorate
from celery_cascade.tasks.guard import install_guard
from celery_cascade.tasks.runtime import Runtime, attach, runtime_of
from celery_cascade.words import shown


class Cascades:
    """Durable sessions for a Celery app.

    Args:
        app: the Celery app; None = call `init_app(app)` later.

    Nothing else is needed: sessions are kept in SQLite beside the module that makes this object, until
    `cascade_database_url` names a server. Tasks stay as they are.
    """

    def __init__(self, app: Celery | None = None) -> None:
        self._runtime: Runtime | None = None
        self._waiting: list[Callable[[Any], None]] = []
        if app is not None:
            self._attach(check_app(app), caller_file())

    def init_app(self, app: Celery) -> Cascades:
        """Give an app its sessions; may be called before or after the app's configuration is read."""
        self._attach(check_app(app), caller_file())
        return self

    def _attach(self, app: Celery, caller: str | None) -> None:
        found = runtime_of(app)
        if found is None:
            found = Runtime(app, home=lambda config: home_of(app, config, caller))
            attach(app, found)
            calling.register(app)
            install_guard(app, found.runner)
            propagate.connect()
            worker.connect(found)
            signals.connect(found)
            quiet.connect()
            jobs.register_jobs(app, found)
            capture.install(send)
            app.on_after_finalize.connect(self._finalized, weak=False)
        self._runtime = found
        app.cascades = self
        if app.finalized:
            self._finalized(app)

    def _finalized(self, sender: Celery, **_: Any) -> None:
        for mark in self._waiting:
            mark(sender)

    @property
    def runtime(self) -> Runtime:
        """The parts behind this object. Raises ConfigError before `init_app`."""
        if self._runtime is None:
            raise ConfigError("this Cascades has no Celery app yet", hint="Call cascades.init_app(app) first")
        return self._runtime

    @property
    def app(self) -> Celery:
        """The Celery app."""
        return self.runtime.app

    def _when_finalized(self, mark: Callable[[Any], None]) -> None:
        self._waiting.append(mark)
        if self._runtime is not None and self._runtime.app.finalized:
            mark(self._runtime.app)

    # -- decorating
    def step(
        self,
        target: Any = None,
        /,
        *,
        retry: int | Mapping[str, Any] | RetryPolicy | None = None,
        timeout: float | str | timedelta | None = None,
        queue: str | None = None,
        priority: int | None = None,
        on_crash: OnCrash | None = None,
        idempotent: bool = True,
        durable: bool = True,
    ) -> Any:
        """Make a Celery task durable by itself: `.delay()` and `.apply_async()` outside a session start one (R151).

        Stands right above or right below `@app.task` or `@shared_task`, on a task class, or alone on a registered
        task; with or without parentheses. A canvas that holds such a task is a session as a whole. The call commits
        to the store before it sends, and returns a `Session`, whose `.get()`, `.id` and `.ready()` do as those of an
        `AsyncResult`. Inside a session a send stays a plain message, unless `apply_async(durable=True)`; anywhere,
        `apply_async(durable=False)` sends it plainly.

        The options are the defaults of all steps of this task, those in cascade files included; what a file or a
        signature says wins.

        Args:
            retry: tries in all, a mapping as under `retry:` in a file, or a RetryPolicy. None = never again.
            timeout: seconds an attempt may take, `5m`, or a timedelta. None = as long as it likes.
            queue: of its messages. None = as Celery routes the task.
            priority: of its messages, 0 to 255. None = as the task says.
            on_crash: what to do when a worker dies in the middle of a step, so that its work may be done or not:
                `retry` = it runs again, `fail` = it has failed, `ask` = its session waits until somebody says what
                became of it (`session.resume(done=…)`). None = `retry`, or as `idempotent` says.
            idempotent: whether running it twice does no harm. False = `on_crash` is `ask`; with `retry` it is refused.
            durable: False = only these options count; a plain send stays plain.

        Raises:
            ConfigError: an option cannot be used.
        """
        where = "@cascades.step"  # without the task's name: asking a task that is not made yet would make it
        policy = step_policy(
            where,
            retry=retry,
            timeout=timeout,
            queue=queue,
            priority=priority,
            on_crash=on_crash,
            idempotent=idempotent,
            durable=durable,
        )
        if target is None:
            return lambda task: decorate(task, policy, self._when_finalized)
        return decorate(target, policy, self._when_finalized)

    # -- starting
    def start(
        self,
        target: Target,
        inputs: Mapping[str, Any] | None = None,
        *,
        session_id: str | None = None,
        name: str | None = None,
        mode: str = "cascade",
        tags: Sequence[str] = (),
        thread_id: str | None = None,
        resource_id: str | None = None,
        idempotency_key: str | None = None,
        expires_in: float | timedelta | None = None,
        expires_at: datetime | None = None,
        queue: bool = False,
        context: Mapping[str, Any] | None = None,
    ) -> Session:
        """Start a cascade; its definition and inputs are in SQL before this returns, workers do the rest.

        Args:
            target: path of a YAML or JSON file, a mapping of the same structure, a registered name, or a Celery
                canvas: a signature, or a chain, group or chord of signatures.
            inputs: what the cascade declares under `inputs:`; none for a canvas, which brings its arguments.
            session_id: your own id, 1 to 36 characters of A-Z a-z 0-9 . _ : -; None = a new one.
            name: shown in lists.
            mode: a word of yours to filter by.
            tags: words of yours to find it by.
            thread_id, resource_id: your own handle on a conversation: a thread, and whose it is. A start with a
                pair whose session has ended continues it, with its context and its conversation; while that runs, it
                is a conflict (D12). A thread without a resource is one of "default"; a resource without a thread is
                only a word to find the session by. See `cascades.threads`.
            idempotency_key: a second start with the same key is a conflict.
            expires_in: seconds after which it ends as `expired` if it is not done; None = never.
            expires_at: the same as a moment that bears its time zone.
            queue: if the thread's session has not ended, wait for that and begin then, instead of a conflict. Until
                then it is `suspended` (`signal`). Several wait in the order of their starts.
            context: what `session.context` begins with: variables that its steps and you share. None = {}.

        Raises:
            DefinitionError, InputError, TemplateError, SessionConflict, StoreUnavailable, SchemaOutOfDate:
                nothing was started.
        """
        options = start_options(
            session_id=session_id,
            name=name,
            mode=mode,
            tags=tags,
            thread_id=thread_id,
            resource_id=resource_id,
            idempotency_key=idempotency_key,
            expires_in=expires_in,
            expires_at=expires_at,
            queue=queue,
            context=context,
        )
        return self.start_with(target, inputs, options)

    def start_with(self, target: Target, inputs: Mapping[str, Any] | None, options: StartOptions) -> Session:
        """`start` with the options as one object."""
        refuse_unsafe_broker(self.app)
        if not store_usable(self.runtime):
            return start_plain(self.runtime, target, inputs, options)
        return Session(self.runtime, start(self.runtime, target, inputs, options))

    def run(self, target: Target, inputs: Mapping[str, Any] | None = None, **options: Any) -> Session:
        """Start a cascade and run it here and now, without worker or broker, just as durably (R13).

        Called again with the same `session_id` after a crash it goes on where it was.
        """
        given = start_options(**options)
        if not store_usable(self.runtime):
            return start_plain(self.runtime, target, inputs, given, here=True)
        return Session(self.runtime, start(self.runtime, target, inputs, given, here=True))

    def register(self, target: str | os.PathLike[str]) -> str:
        """Let `celery_cascade.start` and the command line start this file by its cascade id; returns the id."""
        from celery_cascade.definition.reader import read_cascade

        source = read_target(self.runtime, target)
        if source.path is None:
            raise UsageError("only a cascade file can be registered", hint="Give its path, or start the mapping itself")
        cascade = read_cascade(source)
        known = self.runtime.registered.setdefault(cascade.id, source.path)
        if os.path.realpath(known) != os.path.realpath(source.path):
            raise ConfigError(
                f"{source.path}: a cascade {cascade.id!r} is registered already, from {known}",
                hint="Give one of them another id",
            )
        return cascade.id

    def register_configured(self) -> None:
        """Register the files that `cascade_definitions` names."""
        for pattern in self.runtime.config.definitions:
            for path in sorted(glob.glob(pattern, recursive=True)):
                self.register(path)

    # -- finding
    def session(self, session_id: str) -> Session:
        """The handle on one session. Raises SessionNotFound."""
        self.runtime.store.head(look_up_id(self.runtime.store, session_id))
        return Session(self.runtime, session_id)

    def last_session(self, *files: str | os.PathLike[str]) -> Session | None:
        """The newest session that was started from exactly these files, whatever became of it; None = there is none.

        What `run FILE --resume` finds: nobody needs to remember an id. Edits, the order of several files, links and
        relative paths make no difference; the file itself need not be there any more.

        Args:
            files: path of a cascade file, or a registered name; several for a set that was started together.

        Raises:
            UsageError: there is no path among the arguments, or one is none.
            DefinitionNotFound: a name that is neither registered nor a file.
        """
        if not files:
            raise UsageError("last_session needs a file", hint="Such as: cascades.last_session('order.yaml')")
        row = last_of(self.runtime, [path_of(self.runtime, file) for file in files])
        return None if row is None else Session(self.runtime, row["session_id"])

    def sessions(
        self,
        *,
        status: str | Sequence[str] | None = None,
        cascade: str | None = None,
        step: str | None = None,
        tag: str | Sequence[str] | None = None,
        mode: str | None = None,
        thread_id: str | None = None,
        resource_id: str | None = None,
        parent: str | None = None,
        root: str | None = None,
        forked_from: str | None = None,
        since: Moment | None = None,
        until: Moment | None = None,
        inputs: str | Mapping[str, Any] | None = None,
        error: str | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> Page:
        """Sessions, newest first: a page that is iterated; see `Page` for counts and summaries.

        Everything that is given must hold. A list with its own index stays fast at millions of sessions; `inputs` and
        `error` read the rows that the others leave, from the newest on, so narrow those with `since` or `cascade`.

        Args:
            status: one or several statuses; words of other systems are understood (D2).
            cascade: of this cascade.
            step: standing at this step: it is queued, runs, waits, is parked or has failed there.
            tag: with this tag, or with all of these.
            mode: of this mode.
            thread_id, resource_id: of this thread, of this resource.
            parent, root: children of this session; it and all that its steps have started, forks not.
            forked_from: forks and reruns of this session.
            since, until: begun at or after, and before this moment: aware, or a timedelta = so long ago.
            inputs: inputs that contain this text by the letter, or the input `key=value`; a mapping: just these inputs.
            error: whose error contains this text by the letter.
            limit: at most so many.
            cursor: the `next_cursor` of the page before, for the same filters.

        Raises:
            UsageError: a value cannot be what it is given for.
        """
        wanted = session_filter(
            status=status,
            cascade=cascade,
            step=step,
            tag=tag,
            mode=mode,
            thread_id=thread_id,
            resource_id=resource_id,
            parent=parent,
            root=root,
            forked_from=forked_from,
            since=since,
            until=until,
            inputs=inputs,
            error=error,
            limit=limit,
            cursor=cursor,
        )
        return Page(self.runtime, wanted)

    def bulk(
        self,
        action: str,
        ids: Sequence[str] | None = None,
        *,
        reason: str | None = None,
        actor: str | None = None,
        dry_run: bool = False,
        **filters: Any,
    ) -> BulkReport:
        """Cancel, suspend, resume or delete many sessions: those of these ids, or all that a filter finds.

        What cannot be done to one does not stop the others: it is in `refused`, with the reason. Sessions that begin
        meanwhile are left alone. Everything is recorded in `session_actions`, as for one. Killed in the middle and
        called again, it does the rest.

        Args:
            action: `cancel`, `suspend`, `resume` or `delete` (with descendants).
            ids: whole ids; None = `filters` say which.
            reason, actor: why and who; kept with each session.
            dry_run: only report what would be done.
            filters: as for `sessions`. Without a status: what is active or suspended is cancelled, what is active
                suspended, what is suspended or failed resumed, what is completed, cancelled or expired deleted.

        Raises:
            UsageError: neither or both of `ids` and `filters`, or a value that cannot be.
            StoreUnavailable: the database is away. Called again it does the rest.
        """
        which = self._which(ids, filters)
        return bulk(self.runtime, action, which, reason=reason, actor=actor, dry_run=dry_run)

    def _which(self, ids: Sequence[str] | None, filters: Mapping[str, Any]) -> Sequence[str] | SessionFilter:
        if (ids is None) == (not filters):
            raise UsageError("say which sessions: their ids, or a filter", hint='Such as bulk("cancel", cascade="x")')
        return session_filter(**filters) if ids is None else words_of(ids, "ids") or []

    def diff(
        self, a: Session | str, b: Session | str, *, only: Sequence[str] | str | None = None, redact: bool = True
    ) -> dict[str, Any]:
        """How two sessions differ: definition, inputs, the way they took, steps, outputs, context, status.

        Args:
            a, b: sessions, or their ids.
            only: the parts to look at, of `definition`, `inputs`, `path`, `steps`, `outputs`, `context`, `status`,
                `durations`; None = all.
            redact: without what stands under the keys of `cascade_redact`; that it differs is told all the same.

        Returns JSON-ready data: `same`; `differs`, the parts that do; `parts_at`, where a fork and its origin part;
        and each part, whose changes are {"path": "outputs.charge.lines[0]", "a": 3, "b": 4}. Durations never differ.

        Raises:
            SessionNotFound: one of them is not there.
            UsageError: there is no such part.
        """
        first, second = (one if isinstance(one, Session) else self.session(one) for one in (a, b))
        return first.diff(second, only=only, redact=redact)

    def versions(self, cascade_id: str) -> list[dict[str, Any]]:
        """The distinct definitions of a cascade that sessions ran, the newest first (R21).

        Each with `sha256`, `format`, `bytes`, `first_seen_at`, `sessions` (how many), `last_used_at` and
        `config_path`, the file that the newest of them came from.

        Raises:
            DefinitionNotFound: the store knows no such cascade; names the nearest one.
        """
        return versions_of(self.runtime, cascade_id)

    @property
    def threads(self) -> Threads:
        """Conversations by the users' own handles: (thread, resource) → session; see `Threads`."""
        return Threads(self.runtime)

    def db_session(self) -> StoreSession:
        """A new SQLAlchemy session on the store, for the ORM classes of `celery_cascade.persistence.models`.

        Close it, or use it in a `with` block. On SQLite its first statement takes the write lock, a SELECT too.
        """
        return db_session(self.runtime.store.database)

    # -- keeping house
    def prune(
        self,
        *,
        older_than: timedelta | None = None,
        status: Sequence[str] | str | None = None,
        cascade: str | None = None,
        keep_last: int | None = None,
        dry_run: bool = False,
    ) -> PruneReport:
        """Delete finished sessions past their retention (`cascade_retention`), with all that belongs to them.

        These stay whatever their age: active and suspended ones, the newest 20 finished ones of each cascade, those
        that `session.keep()` pins, and those whose thread was used within the period. A tree of sessions goes whole
        or not at all. Definitions and worker rows that nothing refers to any more go too.

        Args:
            older_than: replaces the ages of the settings; takes failed sessions only if `status` names them.
            status: only these final statuses; None = all that the settings or `older_than` cover.
            cascade: only sessions of this cascade.
            keep_last: replaces the 20 of the settings.
            dry_run: only report what would go.

        With `cascade_retention = None` nothing goes unless `older_than` is given. Several prunes at once do no harm.
        """
        return prune(
            self.runtime,
            older_than=older_than,
            status=status,
            cascade=cascade,
            keep_last=keep_last,
            dry_run=dry_run,
        )

    def cleanup_old_sessions(
        self,
        days: float = 7,
        *,
        statuses: Sequence[str] | str = ("completed", "cancelled", "expired"),
        keep_last: int | None = None,
    ) -> int:
        """Delete sessions that nothing has changed for so many days (`updated_at`); returns how many (R118).

        Args:
            days: at least so long ago; fractions are possible.
            statuses: of which kind. `failed` and `suspended` sessions can still be resumed, so they go only if they
                are named here. `active` ones never: cancel them first.
            keep_last: the newest finished sessions of each cascade that stay; None = as in `cascade_retention` (20).

        What else stays is as for `prune`.
        """
        return cleanup_old_sessions(self.runtime, days, statuses, keep_last)


def check_app(app: Any) -> Celery:
    """The app, also behind Celery's proxy. Raises UsageError: it is none."""
    if not isinstance(calling.real_app(app), Celery):
        raise UsageError(
            f"{shown(app)} is no Celery app", hint="Such as: app = Celery('proj'); cascades = Cascades(app)"
        )
    return app


def run_cascade(
    target: Target,
    inputs: Mapping[str, Any] | None = None,
    *,
    session_id: str | None = None,
    app: Celery | str | None = None,
    **options: Any,
) -> Any:
    """Run a cascade here and now and return its output; no worker, no broker, just as durable (R13).

    Args:
        target, inputs: as for `Cascades.start`.
        session_id: your own id: called again with it after a crash, the run goes on where it was.
        app: the Celery app (or `module:name` of one) whose tasks it calls; None = `CELERY_APP`, else the
            current app.
        options: as for `Cascades.start`.

    Raises:
        SessionFailed: a step failed for good.
    """
    return cascades_of(app).run(target, inputs, session_id=session_id, **options).result(timeout=0)


def cascades_of(app: Celery | str | None = None) -> Cascades:
    """The `Cascades` of an app: its own if it made one, else a new one."""
    found = _find_app(app)
    made = getattr(found, "cascades", None)
    if isinstance(made, Cascades):
        return made
    cascades = Cascades()
    cascades._attach(found, caller_file())
    return cascades


def _find_app(app: Celery | str | None) -> Celery:
    name = app if app is not None else os.environ.get("CELERY_APP")
    if isinstance(name, Celery):
        return name
    if name is not None and not isinstance(name, str):
        return check_app(name)
    if name:
        from celery.app.utils import find_app

        if os.getcwd() not in sys.path:
            sys.path.insert(0, os.getcwd())
        try:
            return find_app(name)
        except (ImportError, AttributeError) as error:
            raise ConfigError(
                f"the Celery app {name!r} cannot be loaded: {error}",
                hint="Pass app=..., set CELERY_APP=your_module, or import the module that makes your Celery app",
            ) from error
    found = calling.real_app(current_app)
    if found.main in (None, "default", "__main__") and not [t for t in found.tasks if not t.startswith("celery")]:
        raise ConfigError(
            "there is no Celery app to run the cascade's tasks with",
            hint="Pass app=..., set CELERY_APP=your_module, or import the module that makes your Celery app",
        )
    return found


def caller_file() -> str | None:
    """The file of the first caller outside this package: the embedded store is kept beside it."""
    here = str(Path(__file__).parent)
    frame = sys._getframe(1)
    while frame is not None:
        file = frame.f_code.co_filename
        if not file.startswith(here):
            return file if os.path.isfile(file) else None
        frame = frame.f_back  # type: ignore[assignment]
    return None
