"""Runs the cascade here and now: no worker, no broker."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from celery import Celery

from celery_cascade import run_cascade
from celery_cascade.errors import InputError

ORDER = Path(__file__).with_name("order.yaml")


@pytest.fixture(scope="session")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Celery]:
    """The app with a store of its own, so that tests never touch the sessions of your runs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CELERY_CASCADE_HOME", str(tmp_path_factory.mktemp("cascade")))
        patch.delenv("CELERY_CASCADE_DATABASE_URL", raising=False)
        from proj import app

        yield app


def test_an_order_is_on_its_way(app: Celery) -> None:
    assert run_cascade(ORDER, {"order_id": 7}, app=app) == "parcel 7 with R7: on its way"


def test_an_order_without_a_number_is_refused(app: Celery) -> None:
    with pytest.raises(InputError, match="order_id"):
        run_cascade(ORDER, {}, app=app)
