"""Outputs of earlier steps, read from the store only if a template names one, and then all of them at once."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from celery_cascade.errors import StoreError, TemplateError
from celery_cascade.persistence import codec
from celery_cascade.persistence.store import Store


class LazyOutputs(Mapping[str, Any]):
    """Step id -> output (None if skipped) of the named steps that have ended.

    Args:
        names: what may be asked for; loaded together at the first look.
    """

    def __init__(self, store: Store, session_id: str, names: Collection[str]) -> None:
        self._store = store
        self._session_id = session_id
        self._names = names
        self._found: dict[str, tuple[str, str | None]] | None = None

    def _rows(self) -> dict[str, tuple[str, str | None]]:
        if self._found is None:
            self._found = self._store.outputs(self._session_id, self._names)
        return self._found

    def __getitem__(self, step: str) -> Any:
        status, output = self._rows()[step]
        if status not in ("succeeded", "skipped"):
            raise KeyError(step)
        return None if output is None else self._decoded(step, output)

    def _decoded(self, step: str, output: str) -> Any:
        """An output that cannot be read is the fault of whoever asks for it, not of the step that ends now."""
        try:
            return codec.decode(output)
        except StoreError as error:
            raise TemplateError(
                f"session {self._session_id}: the output of step {step!r}: {error.message}", hint=error.hint
            ) from error

    def __iter__(self) -> Iterator[str]:
        return (name for name, (status, _) in self._rows().items() if status in ("succeeded", "skipped"))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def skipped(self) -> frozenset[str]:
        """Which of the names were skipped."""
        return frozenset(name for name, (status, _) in self._rows().items() if status == "skipped")
