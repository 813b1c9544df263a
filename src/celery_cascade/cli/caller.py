"""Who calls, and for which Celery app: found late, because some verbs need none."""

from __future__ import annotations

import os
import shlex
import sys
from typing import TYPE_CHECKING, Any

import click
from celery import Celery

from celery_cascade.cli import manner
from celery_cascade.cli.words import say
from celery_cascade.config import doubts_in
from celery_cascade.errors import CascadeError, ConfigError, UsageError

if TYPE_CHECKING:  # loaded when a verb needs them: every `celery …` of the environment imports this module
    from celery_cascade.app import Cascades
    from celery_cascade.tasks.runtime import Runtime

_KEY = "celery_cascade.caller"
DEBUG_VARIABLE = "CELERY_CASCADE_DEBUG"


class Caller:
    """The command line as it was called.

    Args:
        program: what leads to our verbs, without the app: `cascade`, `celery cascade`.
        name: what names the app; None if nothing does.
        app: the app itself, where Celery's own command has found it already.
    """

    def __init__(self, program: str, name: str | None, app: Celery | None = None, *, by_environment: bool) -> None:
        self.program = program
        self.name = name
        self._app = app
        self._by_environment = by_environment
        self._doubts_told = False

    @classmethod
    def of(cls, ctx: click.Context, app_name: str | None) -> Caller:
        """The caller of this command line, to be found again with `here`."""
        manner.reset()
        root = ctx.find_root()
        given: Any = (root.params.get("app") if root is not ctx else None) or None  # an empty CELERY_APP names nothing
        app = None
        if app_name is None and given is not None:  # celery -A proj cascade …
            app = getattr(ctx.obj, "app", None)
        name = app_name or (given if isinstance(given, str) else getattr(given, "main", None))
        environment = os.environ.get("CELERY_APP") or None
        program = ctx.command_path if root is ctx else f"{root.info_name} {ctx.info_name}"
        found = cls(program, name or environment, app, by_environment=name in (None, environment))
        ctx.meta[_KEY] = found
        return found

    @classmethod
    def here(cls) -> Caller:
        """The caller of the verb that runs."""
        found: Caller = click.get_current_context().meta[_KEY]
        return found

    @property
    def words(self) -> str:
        """How to call us again for the same app: `celery -A proj cascade`."""
        if self.name is None or (self._by_environment and os.environ.get("CELERY_APP")):
            return self.program
        before, space, after = self.program.rpartition(" ")
        name = shlex.quote(self.name)
        if space and after == "cascade":
            return f"{before} -A {name} {after}"
        return f"{self.program} -A {name}"

    @property
    def worker_command(self) -> str:
        """The command that starts a worker for the same app."""
        return "celery worker" if "-A" not in self.words else f"celery -A {shlex.quote(self.name or '')} worker"

    @property
    def has_app(self) -> bool:
        """Whether an app was named."""
        return self._app is not None or self.name is not None

    @property
    def app(self) -> Celery:
        """The app with its modules imported. Raises UsageError if none was named or it cannot be loaded."""
        if self._app is None:
            if self.name is None:
                raise UsageError(
                    "no Celery app is named, so there is nothing to look at",
                    hint="Name the module of your app: celery -A your_module cascade ls\n"
                    "or once for all: export CELERY_APP=your_module",
                )
            self._app = self._load(self.name)
        self._import_modules(self._app)
        return self._app

    @property
    def cascades(self) -> Cascades:
        """The app's `Cascades`. Raises ConfigError if it has none."""
        from celery_cascade.app import cascades_of
        from celery_cascade.tasks.runtime import runtime_of

        app = self.app
        if runtime_of(app) is None:
            raise ConfigError(
                f"the Celery app {self.name or app.main!r} has no cascades: its workers would not know what to do",
                hint="Add to the module that makes the app:\n"
                "    from celery_cascade import Cascades\n"
                "    cascades = Cascades(app)",
            )
        self._tell_doubts()
        return cascades_of(app)

    def _tell_doubts(self) -> None:
        """A variable with a typing error would silently lead to another store."""
        if not self._doubts_told and click.get_current_context().info_name != "doctor":  # which tells it as a check
            for doubt in doubts_in():
                say(f"Warning: {doubt}")
        self._doubts_told = True

    @property
    def runtime(self) -> Runtime:
        """The parts behind the app's `Cascades`."""
        return self.cascades.runtime

    def _load(self, name: str) -> Celery:
        from celery.app.utils import find_app

        if os.getcwd() not in sys.path:
            sys.path.insert(0, os.getcwd())
        try:
            app = find_app(name)
        except CascadeError:
            raise
        except Exception as error:  # the user's own modules run here
            raise self._not_loaded(f"the Celery app {name!r} cannot be loaded", error) from error
        if not isinstance(app, Celery) and not isinstance(getattr(app, "main", None), str):
            raise UsageError(f"{name!r} is no Celery app", hint="Write module:attribute, such as -A proj.celery:app")
        return app

    def _import_modules(self, app: Celery) -> None:
        try:
            app.loader.import_default_modules()
            app.finalize(auto=True)
        except CascadeError:
            raise
        except Exception as error:  # the user's own modules run here
            raise self._not_loaded(f"a module of the Celery app {self.name or app.main!r} fails", error) from error

    def _not_loaded(self, what: str, error: Exception) -> UsageError:
        return UsageError(
            f"{what}: {type(error).__name__}: {error}",
            hint=f"Run it from the folder of the module; {DEBUG_VARIABLE}=1 shows the traceback",
        )
