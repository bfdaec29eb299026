"""What all transfers of documents to S3 share: the parameters, and the transfer of one document."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from traceback import extract_tb
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_chain, wait_fixed

from airflow_provider_amzbiz.client import parameters
from airflow_provider_amzbiz.client.sleeping import interruptible_sleep
from airflow_provider_amzbiz.compat import AirflowException
from airflow_provider_amzbiz.documents.interrupts import TransferInterrupted
from airflow_provider_amzbiz.documents.open_uploads import NoRecord
from airflow_provider_amzbiz.documents.upload_options import MAX_BYTES, UNPACK_MODES, UploadOptions
from airflow_provider_amzbiz.exceptions import (
    AmazonBusinessPermanentError,
    DocumentError,
    InvalidInputError,
    translated_errors,
)
from airflow_provider_amzbiz.links import ReportStatusesLink, S3ConsoleLink
from airflow_provider_amzbiz.operators.base import QueueingOperator, check_rendered
from airflow_provider_amzbiz.transfers.keys import NAME, render_key
from airflow_provider_amzbiz.transfers.object_options import (
    check_content_type,
    check_extra_args,
    is_known_at_parsing,
)
from airflow_provider_amzbiz.transfers.s3_connection import s3_client
from airflow_provider_amzbiz.transfers.upload_record import UploadRecord

if TYPE_CHECKING:
    from airflow.providers.openlineage.extractors import OperatorLineage

    from airflow_provider_amzbiz.client.models import ReportDocument
    from airflow_provider_amzbiz.compat import BaseOperatorLink, Context
    from airflow_provider_amzbiz.hooks.amazon_business import AmazonBusinessHook
    from airflow_provider_amzbiz.lineage import MovedDocument, S3Output, Transfer

_ENDED = "The task was ended during the transfer of a document; no part of it is left in S3"
# Seconds before each retry of getReportDocument while it does not know the document: the API may list a report as
# DONE before it knows the report's document.
_DOCUMENT_GRACE = (5.0, 15.0)


class DocumentToS3Operator(QueueingOperator):
    """An operator that transfers documents to S3; :class:`.ReportDocumentToS3Operator` explains its parameters."""

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
    _uploads: UploadRecord | None = None
    _transfer: Transfer | None = None
    # The thread that transfers a document, which a kill interrupts.
    _transfer_thread: threading.Thread | None = None
    _interrupted = False

    def __init__(
        self,
        *,
        s3_bucket: str | None = None,
        s3_key: str | None = None,
        aws_conn_id: str | None = "aws_default",
        replace: bool = True,
        unpack: Literal["auto", "gzip", "none"] = "auto",
        sha256: bool = True,
        content_type: str | None = None,
        encoding: str | None = None,
        extra_args: Mapping[str, Any] | str | None = None,
        max_bytes: int = MAX_BYTES,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if unpack not in UNPACK_MODES:
            raise InvalidInputError(
                f"unpack is {unpack!r}, but must be one of {list(UNPACK_MODES)}; the string 'none' keeps the bytes"
            )
        with translated_errors():
            max_bytes = parameters.positive_integer("max_bytes", max_bytes)
            parameters.boolean("replace", replace)
            parameters.boolean("sha256", sha256)
        if encoding is not None:
            _check_encoding(encoding)
        if is_known_at_parsing(extra_args):
            check_extra_args(extra_args)
        if is_known_at_parsing(content_type):
            check_content_type(content_type)
        self.s3_bucket = s3_bucket
        self.s3_key = s3_key
        self.aws_conn_id = aws_conn_id
        self.replace = replace
        self.unpack = unpack
        self.sha256 = sha256
        self.content_type = content_type
        self.encoding = encoding
        # A mapping or None, once it is rendered and checked.
        self.extra_args: Any = extra_args
        self.max_bytes = max_bytes
        # Lines of text by the URI of each object that this process has stored.
        self._rows: dict[str, int | None] = {}

    def _check_rendered(self) -> None:
        """Check the rendered fields before the task does anything.

        :raises InvalidInputError: one of them is not allowed.
        """
        check_rendered(self)
        check_content_type(self.content_type)
        self.extra_args = check_extra_args(self.extra_args)

    def upload_options(self) -> UploadOptions:
        """Return the options of an upload, as they are once templates are rendered."""
        from airflow_provider_amzbiz.lineage import has_readers

        return UploadOptions(
            unpack=self.unpack,
            replace=self.replace,
            sha256=self.sha256,
            # Content that is kept as it came may be text by its name only.
            rows=self.unpack == "auto" and has_readers(),
            content_type=self.content_type,
            encoding=self.encoding,
            extra_args=self.extra_args or {},
            max_bytes=self.max_bytes,
        )

    def _remember_attempt(self, context: Context) -> None:
        """Record uploads from now on: a previous attempt that was killed may have left some open."""
        self._uploads = UploadRecord(context)

    def on_kill(self) -> None:
        """Cancel the transfer in progress, which leaves nothing of its document in S3.

        Airflow 3 notifies a task that it is to end, and kills its process some seconds later.
        """
        super().on_kill()
        # Once only: a second exception would interrupt the clean-up that the first one began.
        if not self._interrupted and threading.current_thread() is self._transfer_thread:
            self._interrupted = True
            # A read from the network may last a minute; this ends it, because signals arrive in its thread.
            raise TransferInterrupted

    @contextmanager
    def _interruptible(self) -> Iterator[None]:
        """Let :meth:`on_kill` interrupt what this thread does, as an error of ours."""
        self._transfer_thread = threading.current_thread()
        try:
            yield
        except TransferInterrupted:
            raise DocumentError(_ENDED) from None
        finally:
            self._transfer_thread = None

    def fail_if_killed(self, message: str = _ENDED) -> None:
        """Fail a task that was ended while it had no transfer to cancel.

        :raises DocumentError: it was ended.
        """
        if self._killed:
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
        claim: Callable[[str], None] = lambda _: None,
    ) -> list[dict[str, Any]]:
        """Transfer one document, and return a dict for each object that was stored.

        :param fetch: returns a fresh URL.
        :param names: values of the key's placeholders; ``name`` comes from the document.
        :param claim: called with each key before anything is written under it; its error refuses the document.
        """
        from airflow_provider_amzbiz.documents.to_s3 import copy_to_s3
        from airflow_provider_amzbiz.documents.upload_target import UploadTarget

        def claimed_key(name: str | None) -> str:
            rendered = render_key(key, {**names, NAME: name or names["report_document_id"]})
            claim(rendered)
            return rendered

        self.fail_if_killed()
        with self._interruptible(), _only_our_errors(), translated_errors():
            stored = copy_to_s3(
                fetch,
                UploadTarget(s3, bucket, self.upload_options(), self._uploads or NoRecord(), self.log),
                claimed_key,
                allow_http=self.hook.is_local,
                api_host=self.hook.api_host,
                stopped=lambda: self._killed,
            )
        self._rows.update({each.uri: each.rows for each in stored})
        return [each.to_dict() for each in stored]

    def _emit_lineage(
        self,
        context: Context,
        documents: Sequence[MovedDocument],
        *,
        inputs: Sequence[str] = (),
        outputs: Sequence[S3Output] = (),
        **summary: Any,
    ) -> None:
        """Report what was stored to lineage, and in the events of the task's outlets.

        :param inputs: URIs of what was read beside the reports.
        :param outputs: what was written beside the documents.
        """
        from airflow_provider_amzbiz.lineage import Transfer

        host = urlsplit(self.hook.config.endpoint).netloc
        self._transfer = Transfer(host, documents, summary, self._rows, inputs, outputs)
        self._transfer.to_hook_lineage(self.hook)
        self._transfer.to_outlets(self.outlets, context)

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> OperatorLineage[Any, Any]:
        """Return the reports and the objects in S3, for Airflow's OpenLineage provider."""
        from airflow.providers.openlineage.extractors import OperatorLineage

        return self._transfer.to_openlineage() if self._transfer else OperatorLineage()

    def document(self, hook: AmazonBusinessHook, document_id: str) -> ReportDocument:
        """Get a fresh URL; retry for some seconds if the API does not know the document of a new report yet."""
        retrying = Retrying(
            retry=retry_if_exception(_is_unknown),
            wait=wait_chain(*map(wait_fixed, _DOCUMENT_GRACE)),
            stop=stop_after_attempt(len(_DOCUMENT_GRACE) + 1),
            before_sleep=lambda state: self.log.info(
                "Document %s is not known yet; retrying in %s s", document_id, state.upcoming_sleep
            ),
            sleep=lambda seconds: interruptible_sleep(seconds, self.fail_if_killed),
            reraise=True,
        )
        for attempt in retrying:
            with attempt:
                return hook.get_report_document(document_id)
            # No permit was acquired for the extra call, and a task may not wait for one on its worker for long
            # before its download.
            hook = self.hook if hook is self.hook else self.lookup_hook
        raise AssertionError("the loop ends in a return or an exception")


def _is_unknown(error: BaseException) -> bool:
    return isinstance(error, AmazonBusinessPermanentError) and error.status in (400, 404)


@contextmanager
def _only_our_errors() -> Iterator[None]:
    """Turn an unforeseen exception into an error of ours, without its message, which may contain a URL."""
    try:
        yield
    except AirflowException:
        raise
    except Exception as error:  # noqa: BLE001
        at = extract_tb(error.__traceback__)[-1]
        raise DocumentError(
            f"{type(error).__name__} at {at.filename}:{at.lineno} during the transfer of the document"
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
            f"encoding is {encoding!r}, but must be {DECLARED!r} or the name of a charset, such as 'Cp1252'"
        )
