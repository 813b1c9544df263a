"""What belongs to one Celery app: its settings, store, plans, publisher and runner, each made on first use."""

from __future__ import annotations

import os
import threading
import uuid
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from celery_cascade.calling import real_app
from celery_cascade.config import CascadeConfig
from celery_cascade.definition.cascade import Source
from celery_cascade.definition.plan import Plan, make_plan
from celery_cascade.definition.policies import StepPolicy, with_policies
from celery_cascade.definition.reader import read_cascade
from celery_cascade.errors import CascadeError, DefinitionError, StoreError
from celery_cascade.lazy import lazy
from celery_cascade.persistence import codec, migrate
from celery_cascade.persistence.database import Database
from celery_cascade.persistence.rows import Row
from celery_cascade.persistence.store import Store
from celery_cascade.redaction import Keys, Scrubber, secrets_in, secrets_in_text
from celery_cascade.tasks import identity
from celery_cascade.tasks.decorating import policy_of

T = TypeVar("T")

#: How a prefork child that does not inherit memory (spawn) learns whose child it is.
WORKER_VARIABLE = "CELERY_CASCADE_WORKER"


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionFacts:
    """The immutable part of a session, ready for use."""

    session_id: str
    plan: Plan
    inputs: Mapping[str, Any]
    digest: str
    threaded: bool = False  #: it is in a thread, where another session may wait for it
    heir: bool = False  #: it may come from another: what is secret there is secret here


class OpenTokens:
    """The claims that this process holds: entered before the claim commits, left after the checkpoint has."""

    def __init__(self) -> None:
        self._open: set[str] = set()

    def open(self, token: str) -> None:
        """Before the claim."""
        self._open.add(token)

    def close(self, token: str) -> None:
        """After the end is written."""
        self._open.discard(token)

    def is_open(self, token: str) -> bool:
        """Whether somebody in this process still works on it."""
        return token in self._open


class Degraded:
    """What `cascade_store_required = False` remembers of a store that is missing."""

    def __init__(self) -> None:
        self.warned = False
        self.look_again_at = 0.0  #: by the monotonic clock


class Recent:
    """A small cache that forgets what was used longest ago; safe for threads."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._items: OrderedDict[str, Any] = OrderedDict()
        self._lock = threading.Lock()
        os.register_at_fork(after_in_child=self._new_lock)

    def _new_lock(self) -> None:
        self._lock = threading.Lock()

    def get(self, key: str) -> Any:
        """The value for `key` if it is there, else None."""
        with self._lock:
            return self._items.get(key)

    def get_or_make(self, key: str, make: Callable[[], T]) -> T:
        """The value for `key`, made outside the lock if it is not there."""
        with self._lock:
            if key in self._items:
                self._items.move_to_end(key)
                value: T = self._items[key]
                return value
        value = make()
        with self._lock:
            self._items[key] = value
            while len(self._items) > self._size:
                self._items.popitem(last=False)
        return value


class Runtime:
    """Everything of ours that hangs on one Celery app.

    Args:
        app: the Celery app.
        home: finds the folder of the embedded store once the settings are known.
    """

    def __init__(self, app: Any, *, home: Callable[[CascadeConfig], Path]) -> None:
        self.app = app
        self._home = home
        self._store: Store | None = None
        self._store_id: str | None = None
        self._lock = threading.RLock()
        self._worker_id: str | None = None
        self._plans = Recent(200)
        self._sessions = Recent(1000)
        self._scrubbers = Recent(1000)
        self.tokens = OpenTokens()
        self.degraded = Degraded()
        self.registered: dict[str, str] = {}
        os.register_at_fork(after_in_child=self._after_fork)

    def _after_fork(self) -> None:
        self._lock = threading.RLock()
        self.tokens = OpenTokens()
        self.__dict__.pop("runner_id", None)

    @lazy
    def config(self) -> CascadeConfig:
        """The settings, read when first needed. Raises ConfigError."""
        return CascadeConfig.from_mapping(self.app.conf)

    @lazy
    def secret_keys(self) -> Keys:
        """Under which keys stands what nobody is shown."""
        return Keys(self.config.redact)

    @lazy
    def home(self) -> Path:
        """The folder of the embedded store."""
        return self._home(self.config)

    @property
    def database_url(self) -> str | Path:
        """Where the store is: a URL, or the file of the embedded one."""
        return self.config.database_url or self.home / "store.sqlite"

    @property
    def embedded_store(self) -> bool:
        """Whether the store is the SQLite default, which migrates itself."""
        return self.config.database_url is None

    def open_database(self, *, null_pool: bool = False) -> Database:
        """A database that was not checked for its schema: for `migrate` and `doctor`."""
        return Database(self.database_url, schema=self.config.schema, null_pool=null_pool)

    @property
    def store(self) -> Store:
        """The store, opened and checked once. Raises SchemaOutOfDate or StoreUnavailable with the cure."""
        if self._store is None:
            with self._lock:
                if self._store is None:
                    self._store = self._open_store()
        return self._store

    def _open_store(self) -> Store:
        database = self.open_database()
        try:
            if self.embedded_store or self.config.auto_migrate:
                migrate.upgrade(database, by_itself=self.embedded_store)
            else:
                migrate.check(database)
            self._store_id = migrate.store_id(database)
        except CascadeError:
            database.dispose()  # the next try opens its own
            raise
        return Store(database)

    @property
    def store_id(self) -> str:
        """The store's random id (R158)."""
        _ = self.store
        assert self._store_id is not None
        return self._store_id

    def move(self, home: Path) -> None:
        """Keep sessions in a new embedded store in `home` from now on, whatever the settings say: for sandboxes.

        Only where nothing of this runtime is under way, such as in a child that was forked for it.
        """
        self.config = replace(self.config, database_url=None, schema=None, home=str(home), store_required=True)
        self.home = home
        self._store, self._store_id, self._worker_id = None, None, None
        self._sessions, self._scrubbers = Recent(1000), Recent(1000)
        self.tokens = OpenTokens()
        self.degraded = Degraded()
        os.environ.pop(WORKER_VARIABLE, None)

    # -- who we are
    @property
    def worker_id(self) -> str | None:
        """The worker incarnation that this process belongs to; None in a client."""
        return self._worker_id or os.environ.get(WORKER_VARIABLE)

    @property
    def inherits_worker(self) -> bool:
        """Whether only the environment says so: in a pool's child, or in whatever program a step has started."""
        return self._worker_id is None and WORKER_VARIABLE in os.environ

    def enter_worker(self, worker_id: str | None) -> None:
        """Say which worker incarnation this process and its children belong to; None = no longer any."""
        self._worker_id = worker_id
        if worker_id is None:
            os.environ.pop(WORKER_VARIABLE, None)
        else:
            os.environ[WORKER_VARIABLE] = worker_id

    @lazy
    def runner_id(self) -> str:
        """Which process executes: pid and start time, so that a pid used twice is not taken for the first."""
        return identity.runner_id(os.getpid()) or f"{os.getpid()}.{uuid.uuid4().hex[:12]}"

    # -- what a session is
    def facts(self, session_id: str) -> SessionFacts:
        """A session's plan and inputs, cached: they never change. Raises SessionNotFound."""
        return self._sessions.get_or_make(session_id, lambda: self._load(session_id))

    def scrubber_at_hand(self, session_id: str) -> Scrubber:
        """Takes out the secrets of a session's inputs if this process has them, as while it runs a step of it.

        They are looked through once; the store is asked only about what a session comes from, and once.
        """
        facts: SessionFacts | None = self._sessions.get(session_id)
        if facts is None:
            return Scrubber(())
        of_facts = facts
        scrubber: Scrubber = self._scrubbers.get_or_make(
            session_id,
            lambda: Scrubber(secrets_in(of_facts.inputs, self.secret_keys) | self._secrets_before(of_facts)),
        )
        return scrubber

    def _secrets_before(self, facts: SessionFacts) -> set[str]:
        """Those in the inputs of what a session comes from."""
        if not facts.heir:
            return set()
        before = self.store.with_forebears([facts.session_id]).keys() - {facts.session_id}
        return {one for text in self.store.inputs(before) for one in secrets_in_text(text, self.secret_keys)}

    def remember(self, facts: SessionFacts) -> None:
        """Spare the first look-up of a session that this process has just started."""
        self._sessions.get_or_make(facts.session_id, lambda: facts)

    def _load(self, session_id: str) -> SessionFacts:
        row = self.store.session(session_id)
        digest = row["definition_digest"]
        try:
            inputs = codec.decode(row["input_data"])
        except StoreError as error:
            raise StoreError(f"session {session_id}: its inputs: {error.message}", hint=error.hint) from error
        return SessionFacts(
            session_id=session_id,
            plan=self.plan(digest),
            inputs=inputs,
            digest=digest,
            threaded=row["thread_id"] is not None,
            heir=any(row[column] is not None for column in ("continues", "forked_from", "parent_session_id")),
        )

    def plan(self, digest: str) -> Plan:
        """The plan of a stored definition, cached.

        Raises:
            DefinitionError: this version cannot read it any more; the bytes are still there (R20).
            StoreError: it is lost, or not what it was.
        """
        return self._plans.get_or_make(digest, lambda: self._stored_plan(digest))

    def _stored_plan(self, digest: str) -> Plan:
        source = _source_of(self.store.definition(digest))
        try:
            return self._made(source)
        except DefinitionError as error:
            raise DefinitionError(
                f"Failed to parse cascade definition: {error.message}",
                hint="See it as it is stored with: cascade definition ID --raw",
                line=error.line,
                column=error.column,
                excerpt=error.excerpt,
            ) from error

    def plan_of(self, source: Source) -> Plan:
        """The plan of a definition that is about to be started, cached: most starts are of a few files.

        Raises:
            DefinitionError: it does not say something that can be run.
        """
        key = f"{source.format}:{source.digest}"
        return self._plans.get_or_make(key, lambda: self._made(source))

    def _made(self, source: Source) -> Plan:
        return make_plan(with_policies(read_cascade(source), self._policy_of))

    def _policy_of(self, task: str) -> StepPolicy | None:
        return policy_of(self.tasks.get(task))

    @lazy
    def tasks(self) -> Mapping[str, Any]:
        """The app's registered tasks, its modules imported once: Celery does it anew, signals and all, when asked."""
        self.app.loader.import_default_modules()
        self.app.finalize(auto=True)
        registry: Mapping[str, Any] = self.app.tasks
        return registry

    # -- the parts that do something
    @lazy
    def publisher(self) -> Any:
        """Sends messages of steps."""
        from celery_cascade.tasks.publish import Publisher

        return Publisher(self)

    @lazy
    def runner(self) -> Any:
        """Answers for steps to the guard."""
        from celery_cascade.tasks.runner import Runner

        return Runner(self)


def _source_of(row: Row) -> Source:
    source = Source(body=bytes(row["body"]), format=row["format"])
    if source.digest != row["digest"]:  # whatever it says now, it is not what was started
        raise StoreError(
            f"the stored definition {row['digest'][:12]}… of cascade {row['cascade_id']!r} was changed or damaged: its "
            f"sha256 is {source.digest[:12]}…",
            hint="Put the original bytes back, from the cascade's file or a backup",
        )
    return source


_RUNTIMES: WeakKeyDictionary[Any, Runtime] = WeakKeyDictionary()


def runtime_of(app: Any) -> Runtime | None:
    """The runtime of an app that has the plugin, else None."""
    return _RUNTIMES.get(real_app(app))


def attach(app: Any, runtime: Runtime) -> None:
    """Make `runtime` the app's."""
    _RUNTIMES[app] = runtime
