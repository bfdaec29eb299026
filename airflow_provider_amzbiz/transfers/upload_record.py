"""The record of a task's open uploads, for the attempt that follows one that was killed."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Mapping
from typing import Any

from airflow_provider_amzbiz.documents.open_uploads import OpenUpload

log = logging.getLogger(__name__)


class UploadRecord:
    """Keeps the ids of open uploads in Airflow's task state store, on Airflow 3.3 and newer.

    Only its id proves that an upload is this task's: another task may be using the other open uploads to the key.

    :param context: the task's context; if it has no store, nothing is recorded.
    """

    KEY = "amazon_business_uploads"

    def __init__(self, context: Mapping[str, Any]) -> None:
        self._store = context.get("task_state_store")
        self._lock = threading.Lock()
        self._open: list[OpenUpload] = []
        self._previous: list[OpenUpload] | None = None

    def from_previous_attempt(self) -> Collection[OpenUpload]:
        """Return those that a previous attempt left open; none on the second call."""
        with self._lock:
            if self._previous is not None:
                return ()
            self._previous = self._load()
            self._open = [*self._previous, *self._open]
            return self._previous

    def add(self, upload: OpenUpload) -> None:
        """Record one."""
        with self._lock:
            self._open.append(upload)
            self._save()

    def remove(self, upload: OpenUpload) -> None:
        """Delete its record."""
        with self._lock:
            if upload in self._open:
                self._open.remove(upload)
                self._save()

    def _load(self) -> list[OpenUpload]:
        found = self._call(lambda store: store.get(self.KEY)) or []
        return [
            OpenUpload(*each)
            for each in found
            if isinstance(each, (list, tuple)) and [type(part) for part in each] == [str, str, str]
        ]

    def _save(self) -> None:
        uploads = [list(each) for each in self._open]
        self._call(lambda store: store.set(self.KEY, uploads) if uploads else store.delete(self.KEY))

    def _call(self, operation: Callable[[Any], Any]) -> Any:
        if self._store is None:
            return None
        try:
            return operation(self._store)
        except Exception as error:  # noqa: BLE001
            # Whatever the store raises: the document can be stored without it.
            log.warning("Open uploads cannot be recorded for a retry: %s", error)
            return None
