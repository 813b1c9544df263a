"""The guard in pool processes that are started afresh (`worker_pool_start_method = "spawn"`, the default on macOS).

Celery pickles the app for them: what comes out there is another app, without our guard, whose tasks would run the
empty message of a step. Only settings and *fixups* travel with it, so a fixup brings the guard back.
"""

from __future__ import annotations

from typing import Any
from weakref import WeakValueDictionary

from celery.utils.log import get_task_logger

from celery_cascade.tasks.attempt import Attempt, StepRef, StepRunner
from celery_cascade.tasks.guard_call import RUNNER

logger = get_task_logger("celery_cascade.tasks")

FIXUP = "celery_cascade.tasks.guard:guard_rebuilt_app"

#: The apps that the modules of this process have made, by the name that a rebuilt app has as well.
_made_here: WeakValueDictionary[str, Any] = WeakValueDictionary()


def remember(app: Any) -> None:
    """Have the guard travel with the app, and be found by what is made of it."""
    _made_here[str(app.main)] = app
    app.fixups = {*app.fixups, FIXUP}


class Elsewhere:
    """Answers for the steps of a rebuilt app by the runner that the user's own module has made in this process."""

    def __init__(self, app: Any) -> None:
        self._name = str(app.main)

    def _runner(self) -> StepRunner | None:
        app = _made_here.get(self._name)
        return None if app is None else app.__dict__.get(RUNNER)

    def claim(self, ref: StepRef, request: Any) -> Attempt | None:
        runner = self._runner()
        if runner is None:
            logger.error(
                "step %s of session %s cannot run: this pool process has not imported the module that makes "
                "the app %r. Add that module to `include`.", ref.step, ref.session, self._name,
            )  # fmt: skip
            return None
        return runner.claim(ref, request)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._runner(), name)
