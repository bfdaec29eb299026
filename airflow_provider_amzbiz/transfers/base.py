"""What all transfers of documents to S3 share: where to, how, and the way of one document."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from traceback import extract_tb
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from airflow.providers.common.compat.sdk import AirflowException

from airflow_provider_amzbiz.client import parameters
from airflow_provider_amzbiz.documents.interrupts import TransferInterrupted
from airflow_provider_amzbiz.exceptions import (
    AmazonBusinessPermanentError,
    DocumentError,
    InvalidInputError,
    translated_errors,
)
from airflow_provider_amzbiz.links import ReportStatusesLink, S3ConsoleLink
from airflow_provider_amzbiz.operators.base import QueueingOperator
from airflow_provider_amzbiz.transfers.keys import render_key
from airflow_provider_amzbiz.transfers.open_uploads import RememberedUploads
from airflow_provider_amzbiz.transfers.s3_connection import s3_client

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import BaseOperatorLink, Context
    from airflow.providers.openlineage.extractors import OperatorLineage

    from airflow_provider_amzbiz.client.models import ReportDocument
    from airflow_provider_amzbiz.hooks.amazon_business import AmazonBusinessHook
    from airflow_provider_amzbiz.lineage import MovedDocument, Transfer

_ENDED = "The task was ended while it moved a document; no part of one is left in S3"
UNPACK = ("auto", "gzip", "none")
# Decoded bytes above which a document is refused.
MAX_BYTES = 50 * 1024**3
# Parameters of S3's that ``extra_args`` may not have, because the transfer sets them.
_OURS = frozenset(
    {
        "Body", "Bucket", "ChecksumAlgorithm", "ChecksumCRC32", "ChecksumCRC32C", "ChecksumCRC64NVME",
        "ChecksumSHA1", "ChecksumSHA256", "ChecksumType", "ContentLength", "ContentMD5",
        "ContentType", "IfMatch", "IfNoneMatch", "Key", "WriteOffsetBytes",
    }
)  # fmt: skip
# Seconds after which getReportDocument is asked again where it does not know a document of a report that has
# just become DONE.
_DOCUMENT_GRACE = (5.0, 15.0)


class DocumentToS3Operator(QueueingOperator):
    """An operator that moves documents to S3; :class:`.ReportDocumentToS3Operator` explains its parameters."""

    template_fields: Sequence[str] = (
        "s3_bucket",
        "s3_key",
        "aws_conn_id",
        "content_type",
        "extra_args",
        *QueueingOperator.template_fields,
    )
    template_fields_renderers = {"extra_args": "json"}
    operator_extra_links: Collection[BaseOperatorLink] = (S3ConsoleLink(), ReportStatusesLink())
    ui_color = "#f4b183"
    # Where the AWS console shows what was written, once that is known.
    console_url: str | None = None

    def __init__(
        self,
        *,
        s3_bucket: str | None = None,
        s3_key: str | None = None,
        aws_conn_id: str | None = "aws_default",
        replace: bool = True,
        unpack: str = "auto",
        sha256: bool = True,
        content_type: str | None = None,
        encoding: str | None = None,
        extra_args: Mapping[str, Any] | None = None,
        max_bytes: int = MAX_BYTES,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if unpack not in UNPACK:
            raise InvalidInputError(f"unpack is {unpack!r}, but has to be one of {list(UNPACK)}")
        with translated_errors():
            max_bytes = parameters.positive_integer("max_bytes", max_bytes)
        if encoding is not None:
            _check_encoding(encoding)
        for name in extra_args if isinstance(extra_args, Mapping) else ():
            if name in _OURS:
                raise InvalidInputError(f"extra_args has {name!r}, but may not have any of {sorted(_OURS)}")
        self.s3_bucket = s3_bucket
        self.s3_key = s3_key
        self.aws_conn_id = aws_conn_id
        self.replace = replace
        self.unpack = unpack
        self.sha256 = sha256
        self.content_type = content_type
        self.encoding = encoding
        self.extra_args = extra_args
        self.max_bytes = max_bytes
        # By the URI of what this process has stored.
        self.__rows: dict[str, int | None] = {}

    def _remember_attempt(self, context: Context) -> None:
        """Take note of the attempt; an earlier one that was killed may have left uploads open."""
        self.__uploads = RememberedUploads(context)

    __uploads: RememberedUploads | None = None

    def on_kill(self) -> None:
        """Give up what is being moved, which leaves nothing of it in S3.

        Airflow 3 only tells a task that it is to end, and kills its process some seconds later.
        """
        super().on_kill()
        first = not self.__killed
        self.__killed = True
        # Once only: a second one would break off the cleaning up that the first one began.
        if first and threading.current_thread() is self.__mover:
            # A read from the network may last for a minute; this ends it, because signals arrive in its thread.
            raise TransferInterrupted

    __killed = False
    __mover: threading.Thread | None = None

    @contextmanager
    def __interruptible(self) -> Iterator[None]:
        """Let :meth:`on_kill` end what this thread does, which is an error of ours then."""
        self.__mover = threading.current_thread()
        try:
            yield
        except TransferInterrupted:
            raise DocumentError(_ENDED) from None
        finally:
            self.__mover = None

    def fail_if_killed(self, message: str = _ENDED) -> None:
        """End a task that was told to end when nothing was under way that could be given up.

        :raises DocumentError: it was.
        """
        if self.__killed:
            raise DocumentError(message)

    def s3_client(self) -> Any:
        """Return a boto3 client of ``aws_conn_id``; see :func:`.s3_connection.s3_client` for its errors."""
        return s3_client(self.aws_conn_id)

    def _store_document(
        self,
        fetch: Callable[[], ReportDocument],
        *,
        s3: Any,
        bucket: str,
        key: str,
        names: Mapping[str, str | None],
    ) -> list[dict[str, Any]]:
        """Move one document, and return what was stored, a dict for each object.

        :param fetch: gives a fresh URL.
        :param names: what the key's placeholders stand for; ``name`` comes from the document.
        """
        from airflow_provider_amzbiz.documents.to_s3 import copy_to_s3
        from airflow_provider_amzbiz.lineage import is_read

        self.fail_if_killed()
        with self.__interruptible(), _only_our_errors(), translated_errors():
            stored = copy_to_s3(
                fetch,
                s3=s3,
                bucket=bucket,
                key=lambda name: render_key(key, {**names, "name": name or names["report_document_id"]}),
                unpack=self.unpack,
                replace=self.replace,
                sha256=self.sha256,
                # Bytes that were kept as they came may be text by name only.
                rows=self.unpack == "auto" and is_read(),
                content_type=self.content_type,
                encoding=self.encoding,
                extra_args=self.extra_args,
                max_bytes=self.max_bytes,
                allow_http=self.hook.is_local,
                api_host=self.hook.api_host,
                uploads=self.__uploads,
                stopped=lambda: self.__killed,
                log=self.log,
            )
        self.__rows.update({each.uri: each.rows for each in stored})
        return [each.to_dict() for each in stored]

    def _emit_lineage(self, context: Context, documents: Sequence[MovedDocument], **summary: Any) -> None:
        """Tell lineage, and the events of the task's outlets, what was moved."""
        from airflow_provider_amzbiz.lineage import Transfer

        host = urlsplit(self.hook.config.endpoint).netloc
        self.__transfer = Transfer(host, documents, summary, self.__rows)
        self.__transfer.to_hook_lineage(self.hook)
        self.__transfer.to_outlets(self.outlets, context)

    __transfer: Transfer | None = None

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> OperatorLineage[Any, Any]:
        """Return the reports and the objects in S3; Airflow's OpenLineage provider asks for them."""
        from airflow.providers.openlineage.extractors import OperatorLineage

        return self.__transfer.to_openlineage() if self.__transfer else OperatorLineage()

    def document(self, hook: AmazonBusinessHook, document_id: str) -> ReportDocument:
        """Get a fresh URL. A document of a report that has just become DONE may not be known at once."""
        for pause in _DOCUMENT_GRACE:
            try:
                return hook.get_report_document(document_id)
            except AmazonBusinessPermanentError as error:
                if error.status not in (400, 404):
                    raise
                self.log.info("Document %s is not known yet; asking again in %s s", document_id, pause)
                time.sleep(pause)
                # Nobody queued for this one more call, and before the download a task does not wait here for long.
                hook = self.hook if hook is self.hook else self.lookup_hook
        return hook.get_report_document(document_id)


@contextmanager
def _only_our_errors() -> Iterator[None]:
    """Turn what nobody foresaw into an error of ours, without its text, which may have a URL in it."""
    try:
        yield
    except AirflowException:
        raise
    except Exception as error:  # noqa: BLE001
        at = extract_tb(error.__traceback__)[-1]
        raise DocumentError(
            f"{type(error).__name__} at {at.filename}:{at.lineno} while the document was moved"
        ) from None


def _check_encoding(encoding: Any) -> None:
    from airflow_provider_amzbiz.documents.charset import DECLARED, codec_of
    from airflow_provider_amzbiz.documents.errors import UnsupportedDocumentError

    try:
        known = isinstance(encoding, str) and (encoding == DECLARED or codec_of(encoding))
    except UnsupportedDocumentError:
        known = False
    if not known:
        raise InvalidInputError(
            f"encoding is {encoding!r}, but has to be {DECLARED!r} or the name of a charset, such as 'Cp1252'"
        )
