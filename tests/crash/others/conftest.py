"""Stores of each database for the faults that other systems had: `kit` without Celery, `any_kit` with an app."""

from __future__ import annotations

from contract.conftest import contract_database, contract_url, kit
from sessions.conftest import any_kit, make_kit, store_url

__all__ = ["any_kit", "contract_database", "contract_url", "kit", "make_kit", "store_url"]
