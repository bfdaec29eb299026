"""What a failed transfer deletes, so that either all objects of its document are in S3, or none."""

from __future__ import annotations

from types import TracebackType

from airflow_provider_amzbiz.documents.digest import Digest
from airflow_provider_amzbiz.documents.errors import DocumentStorageError
from airflow_provider_amzbiz.documents.interrupts import despite_interrupts
from airflow_provider_amzbiz.documents.s3_errors import is_missing, storage_errors
from airflow_provider_amzbiz.documents.s3_object import S3Object
from airflow_provider_amzbiz.documents.s3_requests import per_request_args
from airflow_provider_amzbiz.documents.s3_verification import is_written_since, size_and_crc32
from airflow_provider_amzbiz.documents.streams import Log


class Rollback:
    """Deletes the objects that a transfer has written, if leaving the context with an error.

    Only objects that did not exist before belong here: what was there is not the transfer's to delete.
    """

    def __init__(self, log: Log) -> None:
        self._log = log
        self._stored: list[S3Object] = []
        # Objects whose write was sent, but not confirmed.
        self._sent: dict[S3Object, Digest] = {}

    def sending(self, s3_object: S3Object, digest: Digest) -> None:
        """Record that a request is sent which may write an object."""
        self._sent[s3_object] = digest

    def stored(self, s3_object: S3Object) -> None:
        """Record that S3 has written the object."""
        self._stored.append(s3_object)
        self._sent.pop(s3_object, None)

    def unverified(self, s3_object: S3Object) -> None:
        """Record that the object may differ from what was sent: delete it, whatever was there before."""
        self._stored.append(s3_object)

    def verified(self, s3_object: S3Object) -> None:
        """Record that the object is what was sent."""
        self._stored.remove(s3_object)

    def not_written(self, s3_object: S3Object) -> None:
        """Record that S3 has not written the object."""
        self._sent.pop(s3_object, None)

    def __enter__(self) -> Rollback:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            despite_interrupts(self._run)

    def _run(self) -> None:
        while self._stored:
            if not self._is_anothers(self._stored[-1]):
                self._delete(self._stored[-1])
            self._stored.pop()
        while self._sent:
            s3_object, digest = next(iter(self._sent.items()))
            if self._is_ours(s3_object, digest):
                self._delete(s3_object)
            del self._sent[s3_object]

    def _is_anothers(self, s3_object: S3Object) -> bool:
        """Whether another task has written the object since, such as a retry while this worker counts as lost."""
        try:
            return is_written_since(s3_object)
        except DocumentStorageError as error:
            self._log.warning("Could not find out whether %s was written again: %s", s3_object.uri, error)
            return False

    def _is_ours(self, s3_object: S3Object, digest: Digest) -> bool:
        """Whether a write without a response created the object; another task may have done so since."""
        try:
            found = size_and_crc32(s3_object, digest)
        except DocumentStorageError as error:
            if not is_missing(error):
                self._log.warning("Could not find out whether %s was written: %s", s3_object.uri, error)
            return False
        return found == (digest.count, digest.crc32)

    def _delete(self, s3_object: S3Object) -> None:
        try:
            with storage_errors(s3_object.target.bucket, s3_object.key):
                arguments = per_request_args(s3_object.target.options.extra_args, content=False)
                s3_object.s3.delete_object(**s3_object.location, **arguments)
        except DocumentStorageError as error:
            # Not raised: it would hide why the object is deleted.
            self._log.warning(
                "%s could not be deleted, although the rest of its document is missing: %s", s3_object.uri, error
            )
