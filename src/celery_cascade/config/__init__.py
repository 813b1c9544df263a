"""Every setting in one frozen, validated object, read from the Celery configuration once (keys `cascade_*`).

docs/settings.md is made from these fields: `scripts/docs`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from celery_cascade.config.about import PREFIX, setting, settings_of
from celery_cascade.config.contradictions import contradictions
from celery_cascade.config.keys import gather, unread_variables
from celery_cascade.config.retention import Retention
from celery_cascade.config.values import read_value
from celery_cascade.errors import ConfigError
from celery_cascade.words import words

__all__ = [
    "HOME_VARIABLE",
    "PREFIX",
    "SCHEMA_VARIABLE",
    "URL_VARIABLE",
    "CascadeConfig",
    "Retention",
    "doubts_in",
    "effective",
    "problems_in",
]

URL_VARIABLE = "CELERY_CASCADE_DATABASE_URL"
HOME_VARIABLE = "CELERY_CASCADE_HOME"
SCHEMA_VARIABLE = "CELERY_CASCADE_SCHEMA"


#: The keys under which secrets stand as a rule, each as words that follow one another.
SECRET_KEYS = words(
    "password passwd pwd passphrase secret secrets token apikey api_key access_key private_key secret_key signing_key "
    "encryption_key authorization credential credentials cookie cookies set_cookie session_key client_secret cvv cvc"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CascadeConfig:
    """The settings of one app; times are seconds, sizes are bytes. Each field says what it is and when to change it."""

    database_url: str | None = setting(
        None,
        "text",
        doc="SQLAlchemy URL of the store: `postgresql://user@db/shop`, `mysql://…`, `sqlite:///…`.",
        change="workers are on several machines, or the store shall be a server that is backed up.",
        without="SQLite in `cascade_home`, which migrates itself: one machine only.",
        variable=URL_VARIABLE,
    )
    home: str | None = setting(
        None,
        "text",
        doc="Folder of the embedded store, and of the embedded broker. Relative = to the module of the app.",
        change="the folder of the module cannot be written to, or goes with each deploy.",
        without="`.cascade` beside the module that makes `Cascades(app)`, whatever the working directory.",
        variable=HOME_VARIABLE,
    )
    auto_migrate: bool = setting(
        False,
        "flag",
        doc="Whether a server database is migrated on first use.",
        change="nobody runs commands at a deploy, and the store's user may create tables.",
        without="`cascade migrate up` is needed once a release; until then workers and starts refuse, and say so. "
        "The embedded SQLite always migrates itself.",
    )
    store_required: bool = setting(
        True,
        "flag",
        doc="Whether a start is refused while the store is missing, out of date or unreachable.",
        change="work must go on without its store, even though it is not durable then: one warning a process, and the "
        "steps of a start run in one plain task of which nothing is kept; see docs/broken-stores.md.",
        without="A start that cannot be durable raises, with the remedy; a worker without its store does not start.",
    )
    heartbeat_interval: float = setting(
        5.0,
        "seconds",
        doc="How often a worker says in the store that it is alive.",
        change="thousands of workers share one database (longer).",
        without="One small UPDATE a worker every 5 s.",
    )
    heartbeat_timeout: float = setting(
        15.0,
        "seconds",
        doc="Silence after which another worker takes a worker's steps. At least two intervals.",
        change="machines pause for longer (a step would run twice), or resuming must be quicker (shorter, with a "
        "shorter interval).",
        without="Steps of a machine that is gone run again after 10 to 17 s; those of a process that is gone on the "
        "same machine within 2 s.",
    )
    timer_interval: float = setting(
        1.0,
        "seconds",
        doc="How often due retries, resends and deadlines are looked for.",
        change="retries need not be so punctual, and the database is asked too often.",
        without="A retry begins up to a second late.",
    )
    orphan_interval: float = setting(
        2.0,
        "seconds",
        doc="How often steps of dead workers are looked for.",
        change="dead workers may be found later.",
        without="One indexed query every 2 s, shared by all workers.",
    )
    resend_after: float = setting(
        60.0,
        "seconds",
        doc="How long a queued step may go unclaimed before its message is sent again; each time twice as long, up "
        "to an hour.",
        change="the broker loses messages often (shorter), or queues are hours long (longer).",
        without="A lost message costs a minute; a long queue bears a few messages twice, which does no harm.",
    )
    max_crashes: int = setting(
        5,
        "count",
        doc="How often a step may take its worker down before its session is suspended as `poisoned`.",
        change="steps are known to be killed often, by preemption of machines, say (more).",
        without="A step that exhausts the memory kills five workers, then waits for `cascade resume`.",
    )
    max_payload_bytes: int = setting(
        10 * 1024 * 1024,
        "bytes",
        doc="Largest input, argument list or output of a step, as stored JSON.",
        change="outputs are larger on purpose; the path or address of a file is mostly better.",
        without="What is larger fails with its size and this limit, and can be resumed once it is raised.",
    )
    max_definition_bytes: int = setting(
        1024 * 1024,
        "bytes",
        doc="Largest cascade file.",
        change="files are made by programs and are larger.",
        without="A larger file is refused by its size, unread.",
    )
    database_patience: float = setting(
        30.0,
        "seconds",
        doc="How long a claim or a start waits for a database that is away.",
        change="failovers of the database take longer (longer), or callers must not wait (shorter).",
        without="After 30 s a start raises StoreUnavailable, and a worker drops the message, which is sent again. "
        "What a step has done is never dropped: its checkpoint waits until the database is back.",
    )
    retention: Retention | None = setting(
        None,
        "retention",
        part=Retention,
        doc="What prune deletes; see the fields below.",
        change="sessions are to stay longer or shorter; `None`: nothing is ever deleted.",
        without="Final sessions go after 7 days, failed ones after 30, by the daily Beat entry or `cascade prune`.",
    )
    definitions: tuple[str, ...] = setting(
        (),
        "patterns",
        doc="Glob patterns of cascade files that can be started by their cascade id.",
        change="the task `celery_cascade.start`, Beat or the command line shall start cascades by name.",
        without="Files are started by path, or after `cascades.register(path)`.",
    )
    redact: tuple[str, ...] = setting(
        SECRET_KEYS,
        "patterns",
        doc="Keys whose values are not shown in lists, `show`, `watch`, logs: words of a key, or a glob of all of it; "
        "see docs/finding.md.",
        change="your inputs and outputs call secrets otherwise (give the whole list), or nothing is to be hidden "
        "(`[]`).",
        without="What stands under such a key is shown as `[redacted]`, and so are the same values elsewhere. SQL "
        "keeps them as they are.",
    )
    queue: str | None = setting(
        None,
        "text",
        doc="Celery queue of steps that name none.",
        change="steps shall go to workers of their own, or two stores share a broker.",
        without="Each step goes where its task is routed.",
    )
    schema: str | None = setting(
        None,
        "text",
        doc="PostgreSQL schema of our tables, views, triggers and version table.",
        change="they are to live apart from the application's, or two stores share a database.",
        without="The first schema of the role's `search_path`, mostly `public`.",
        variable=SCHEMA_VARIABLE,
    )

    def __post_init__(self) -> None:
        for name, about in settings_of(type(self)).items():
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, read_value(PREFIX + name, about, value))
        for problem in self.problems():
            raise ConfigError(problem)

    def problems(self) -> list[str]:
        """Every contradiction among the settings, each with its cure."""
        return contradictions({item.name: getattr(self, item.name) for item in fields(self)})

    @classmethod
    def from_mapping(cls, conf: Mapping[str, Any], environ: Mapping[str, str] = os.environ) -> CascadeConfig:
        """Read the `cascade_*` keys of a Celery configuration; the environment fills in what is not set.

        With a namespace (`config_from_object(..., namespace="CELERY")`) they are `CELERY_CASCADE_*`.

        Raises:
            ConfigError: an unknown key or a value of the wrong type, with the nearest right word.
        """
        found = gather(conf, environ, settings_of(cls))
        for problem in found.wrong:
            raise ConfigError(problem)
        return cls(**found.values)


def problems_in(conf: Mapping[str, Any], environ: Mapping[str, str] = os.environ) -> list[str]:
    """Everything that is wrong with the `cascade_*` keys of a configuration, not the first only: for `doctor`."""
    found = gather(conf, environ, settings_of(CascadeConfig))
    return [*found.wrong, *contradictions(_defaults() | found.values)]


def doubts_in(environ: Mapping[str, str] = os.environ) -> list[str]:
    """Variables of the environment that look like settings of ours but are not read: for `doctor`."""
    return unread_variables(environ, settings_of(CascadeConfig))


def effective(conf: Mapping[str, Any], environ: Mapping[str, str] = os.environ) -> dict[str, tuple[Any, str]]:
    """Every setting by its key: the value that holds, and the key or variable that it comes from, or `default`."""
    found = gather(conf, environ, settings_of(CascadeConfig))
    values = _defaults() | found.values
    return {PREFIX + name: (values[name], found.origins.get(name, "default")) for name in values}


def _defaults() -> dict[str, Any]:
    defaults = CascadeConfig()
    return {item.name: getattr(defaults, item.name) for item in fields(defaults)}
