"""The fixture `crashtest`. In your conftest.py: `pytest_plugins = ["celery_cascade.testing.pytest_plugin"]`.

No entry point installs it: pytest would load Celery in every project of the environment, asked or not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from celery_cascade.testing.crash_report import CrashReport
from celery_cascade.testing.crashing import crash_test


@pytest.fixture
def crashtest(request: pytest.FixtureRequest) -> Callable[..., CrashReport]:
    """Call it as `crash_test`, but for the app: `crashtest("order.yaml", {"order_id": 7})`.

    The app is `app=`, else that of the fixture `celery_app` if the test uses it, else `CELERY_APP`, else the current
    app. When the test fails, the table stands among what was captured.
    """

    def test(target: Any, inputs: Mapping[str, Any] | None = None, *, app: Any = None, **options: Any) -> CrashReport:
        if app is None and "celery_app" in request.fixturenames:
            app = request.getfixturevalue("celery_app")
        report = crash_test(app, target, inputs, **options)
        request.node.add_report_section("call", "crash test", str(report))
        return report

    return test
