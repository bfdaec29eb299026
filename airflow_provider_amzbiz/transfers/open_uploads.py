"""A task's open uploads, remembered for the attempt after one that was killed."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Mapping
from typing import Any

from airflow_provider_amzbiz.documents.open_uploads import OpenUpload

log = logging.getLogger(__name__)


class RememberedUploads:
    """Keeps the ids of open uploads in Airflow's task state store, from 3.3 on.

    An upload is known by its id alone: of the open uploads to a key, nothing else tells whose they are, and one of
    another task's may live.

    :param context: the task's context; where it has no store, nothing is remembered.
    """

    KEY = "amazon_business_uploads"

    def __init__(self, context: Mapping[str, Any]) -> None:
        self._store = context.get("task_state_store")
        self._lock = threading.Lock()
        self._open: list[OpenUpload] = []
        self._left: list[OpenUpload] | None = None

    def left(self) -> Collection[OpenUpload]:
        """Return those that an earlier attempt has left, to the first that asks."""
        with self._lock:
            if self._left is not None:
                return ()
            self._left = self._load()
            self._open = [*self._left, *self._open]
            return self._left

    def opened(self, upload: OpenUpload) -> None:
        """Remember one."""
        with self._lock:
            self._open.append(upload)
            self._save()

    def closed(self, upload: OpenUpload) -> None:
        """Forget one."""
        with self._lock:
            if upload in self._open:
                self._open.remove(upload)
                self._save()

    def _load(self) -> list[OpenUpload]:
        found = self._attempt(lambda store: store.get(self.KEY)) or []
        return [
            OpenUpload(*each)
            for each in found
            if isinstance(each, (list, tuple)) and [type(part) for part in each] == [str, str, str]
        ]

    def _save(self) -> None:
        uploads = [list(each) for each in self._open]
        self._attempt(lambda store: store.set(self.KEY, uploads) if uploads else store.delete(self.KEY))

    def _attempt(self, call: Callable[[Any], Any]) -> Any:
        if self._store is None:
            return None
        try:
            return call(self._store)
        except Exception as error:  # noqa: BLE001
            # Whatever the store's trouble is: the document can be stored without it.
            log.warning("Open uploads cannot be remembered for a retry: %s", error)
            return None
