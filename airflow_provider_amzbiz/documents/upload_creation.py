"""What becomes of the requests that begin an upload, of which botocore may send several for one call."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client


class Creations:
    """Watches what S3 says to the requests that begin an upload: botocore may send several for one call.

    :ivar upload_ids: of the uploads that were begun.
    :ivar lost: how many may have been begun besides.
    """

    _EVENT = "response-received.s3.CreateMultipartUpload"

    def __init__(self, s3: S3Client) -> None:
        self._events = s3.meta.events
        self._thread = threading.get_ident()
        self.upload_ids: set[str] = set()
        self.lost = 0

    def __enter__(self) -> Creations:
        self._events.register(self._EVENT, self._received)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._events.unregister(self._EVENT, self._received)
        if kind is not None and not issubclass(kind, Exception):
            # The task is ended while a request may be on its way.
            self.lost += 1

    def _received(self, parsed_response: Any = None, exception: Any = None, **_: Any) -> None:
        from botocore.exceptions import ConnectTimeoutError, EndpointConnectionError

        if threading.get_ident() != self._thread:
            # Another transfer uses the client, too.
            return
        if exception is not None:
            self.lost += not isinstance(exception, (ConnectTimeoutError, EndpointConnectionError))
        elif upload_id := parsed_response.get("UploadId"):
            self.upload_ids.add(upload_id)
        else:
            # Headers that were cut; or a fault of S3's own, while 503 and 4xx are refusals.
            status = parsed_response["ResponseMetadata"]["HTTPStatusCode"]
            self.lost += status < 300 or (status >= 500 and status != 503)
