"""Uploads that are neither completed nor aborted, and who remembers them."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple, Protocol


class OpenUpload(NamedTuple):
    """An upload that is neither completed nor aborted."""

    bucket: str
    key: str
    upload_id: str


class OpenUploads(Protocol):
    """Remembers a task's open uploads, for the attempt after one that was killed."""

    def left(self) -> Collection[OpenUpload]:
        """Return those that an earlier attempt has left, to the first that asks."""

    def opened(self, upload: OpenUpload) -> None:
        """Remember one."""

    def closed(self, upload: OpenUpload) -> None:
        """Forget one."""


class NoMemory:
    """Remembers nothing."""

    def left(self) -> Collection[OpenUpload]:
        """Return none."""
        return ()

    def opened(self, upload: OpenUpload) -> None:
        """Do nothing."""

    def closed(self, upload: OpenUpload) -> None:
        """Do nothing."""
