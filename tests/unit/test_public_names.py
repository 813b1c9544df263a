"""What `import celery_cascade` gives, and what it does not cost."""

from __future__ import annotations

import subprocess
import sys

import celery_cascade
from support.cluster import environment


def test_every_public_name_is_there_and_no_other() -> None:
    for name in celery_cascade.__all__:
        assert getattr(celery_cascade, name) is not None
    assert set(celery_cascade._HOMES) | {"__version__"} == set(celery_cascade.__all__)
    assert set(celery_cascade.__all__) <= set(dir(celery_cascade))


def test_celery_s_own_command_does_not_pay_for_our_database_layer() -> None:
    """R87: the plugin's group is imported by every `celery …` of the environment."""
    code = "import sys, celery_cascade.cli; print([m for m in ('sqlalchemy', 'alembic', 'jinja2') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
