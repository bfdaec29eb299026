"""What a batch was asked for and what came of it: one JSON document in S3, beside the data."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, fields
from functools import partial
from typing import Any

from airflow_provider_amzbiz.client.models import ProcessingStatus
from airflow_provider_amzbiz.exceptions import (
    AmazonBusinessError,
    AmazonBusinessPermanentError,
    ManifestTakenError,
    translated_errors,
)

_VERSION = 1
_REFUSED = (409, 412)
_USELESS = (ProcessingStatus.FATAL, ProcessingStatus.CANCELLED)


@dataclass
class Item:
    """One request of a batch.

    :ivar fingerprint: of the request.
    :ivar report_options: of the request, for whoever reads the manifest.
    :ivar sent_at: Unix time at which it was sent; without ``report_id``, it is open whether a report came of it.
    :ivar status: processing status as last seen.
    :ivar uri: and ``bytes``, ``sha256``: of the object, where the document is one.
    :ivar objects: all objects of the document, as the single transfer describes them; None until it has landed.
    :ivar error: why there is none and will be none in this try.
    :ivar permanent: whether another try cannot mend that.
    :ivar skipped: whether it ended CANCELLED and that is no failure.
    :ivar failures: how often moving or creating it failed in a way that may pass.
    :ivar earlier: whether the report is of an earlier try, and is made anew if it proves useless.
    :ivar adopted: whether the report was taken from a listing, so that it is never cancelled.
    """

    index: int
    fingerprint: str
    report_type: str
    report_options: dict[str, str] = field(default_factory=dict)
    key: str | None = None
    report_id: str | None = None
    sent_at: float | None = None
    status: str | None = None
    report_document_id: str | None = None
    uri: str | None = None
    bytes: int | None = None
    sha256: str | None = None
    objects: list[dict[str, Any]] | None = None
    error: str | None = None
    permanent: bool = False
    skipped: bool = False
    failures: int = 0
    earlier: bool = False
    adopted: bool = False

    @property
    def settled(self) -> bool:
        """Whether nothing is left to do."""
        return self.objects is not None or self.error is not None or self.skipped

    @property
    def to_create(self) -> bool:
        """Whether there is no report of it."""
        return not self.settled and self.report_id is None

    @property
    def running(self) -> bool:
        """Whether its report has not ended."""
        return not self.settled and self.report_id is not None and self.report_document_id is None

    @property
    def to_land(self) -> bool:
        """Whether its document waits to be moved."""
        return not self.settled and self.report_document_id is not None

    def landed(self, objects: list[dict[str, Any]]) -> None:
        """Take note of what was stored."""
        self.objects = objects
        if len(objects) == 1:
            self.uri, self.bytes, self.sha256 = (objects[0][name] for name in ("uri", "bytes", "sha256"))

    def fail(self, error: Exception) -> None:
        """Take note of why there is nothing."""
        self.error = f"{type(error).__name__}: {error}"
        self.permanent = isinstance(error, AmazonBusinessPermanentError)

    def try_again(self) -> None:
        """Make a new try of what failed; what was created already is gone on with, as long as it is of use."""
        if self.objects is not None:
            return
        self.error, self.permanent, self.skipped, self.failures = None, False, False, 0
        if self.status in _USELESS:
            self.drop_report()
        self.earlier = self.report_id is not None

    def drop_report(self) -> None:
        """Forget a report that is of no use."""
        self.report_id = self.sent_at = self.status = self.report_document_id = None
        self.earlier = self.adopted = False


@dataclass
class Manifest:
    """The record of a batch.

    It is written with S3's conditional write: two processes cannot both go on with it, so that a worker which was
    given up for lost, and was not, does no harm.

    :ivar deadline: Unix time at which the present try ends.
    """

    s3: Any
    bucket: str
    key: str
    items: list[Item] = field(default_factory=list)
    deadline: float = 0.0
    _etag: str | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _asked: Iterator[int] = field(default_factory=partial(itertools.count, 1))
    _written: int = 0

    @property
    def uri(self) -> str:
        """Where it lies."""
        return f"s3://{self.bucket}/{self.key}"

    def read(self) -> bool:
        """Read what an earlier process wrote; False if there is none."""
        from botocore.exceptions import ClientError

        from airflow_provider_amzbiz.documents.s3_errors import require_header, storage_errors

        with translated_errors(), storage_errors(self.bucket, self.key):
            try:
                answer = self.s3.get_object(Bucket=self.bucket, Key=self.key)
            except ClientError as error:
                if error.response.get("Error", {}).get("Code") in ("NoSuchKey", "404"):
                    return False
                raise
            etag = require_header(answer.get("ETag"), self.bucket, self.key)
            body = answer["Body"].read()
            if len(body) != answer["ContentLength"]:
                raise AmazonBusinessError(f"{self.uri} was not read to its end")
        try:
            content = json.loads(body)
        except ValueError:
            content = None
        if not isinstance(content, dict) or content.get("version") != _VERSION:
            raise AmazonBusinessPermanentError(f"{self.uri} is no manifest that this version can read")
        known = {each.name for each in fields(Item)}
        self.items = [
            Item(**{name: value for name, value in item.items() if name in known}) for item in content["items"]
        ]
        self.deadline, self._etag = content["deadline"], etag
        return True

    def match(self, items: Iterable[Item]) -> None:
        """Make the items those of today's requests, and keep what is known of them."""
        known = {(item.fingerprint, item.key): item for item in self.items}
        self.items = [known.get((item.fingerprint, item.key), item) for item in items]
        for index, item in enumerate(self.items):
            item.index = index

    def save(self) -> None:
        """Write it; several threads may call this, and those that wait for the same writing share one.

        :raises ManifestTakenError: somebody else has written it.
        """
        from botocore.exceptions import ClientError

        from airflow_provider_amzbiz.documents.s3_errors import require_header, storage_errors

        mine = next(self._asked)
        with self._lock:
            if mine < self._written:
                return
            # Whoever has asked by now has made its change by now.
            written = next(self._asked)
            items = [vars(item) for item in self.items]
            content = {"version": _VERSION, "deadline": self.deadline, "items": items}
            body = json.dumps(content, separators=(",", ":")).encode()
            condition = {"IfMatch": self._etag} if self._etag else {"IfNoneMatch": "*"}
            with translated_errors(), storage_errors(self.bucket, self.key):
                try:
                    answer = self.s3.put_object(
                        Bucket=self.bucket,
                        Key=self.key,
                        Body=body,
                        ContentType="application/json",
                        **condition,
                    )
                except ClientError as error:
                    if error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") not in _REFUSED:
                        raise
                    # boto3 repeats a write whose answer was lost; then it is our own that is there.
                    there = self.s3.get_object(Bucket=self.bucket, Key=self.key)
                    if there["Body"].read() != body:
                        raise ManifestTakenError(
                            f"{self.uri} was written by another process: this one stops, so that nothing is "
                            "created twice"
                        ) from None
                    answer = there
                etag = require_header(answer.get("ETag"), self.bucket, self.key)
            self._etag, self._written = etag, written
