"""Moving a report's document to S3 as a task."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow_provider_amzbiz.exceptions import (
    AmazonBusinessPermanentError,
    InvalidInputError,
    ReportNotReadyError,
    ThrottledError,
    error_from_dict,
    translated_errors,
)
from airflow_provider_amzbiz.operators.reports import AmazonBusinessOperator, QueueingOperator
from airflow_provider_amzbiz.outcomes import settle

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_amzbiz.client.models import ReportDocument

UNPACK = ("auto", "gzip", "none")
# Decoded bytes above which a document is refused.
MAX_BYTES = 50 * 1024**3
# Seconds after which getReportDocument is asked again where it does not know a document of a report that has
# just become DONE.
_DOCUMENT_GRACE = (5.0, 15.0)
_PLACEHOLDER = re.compile(r"\{(\w*)\}")


class ReportDocumentToS3Operator(QueueingOperator):
    """Moves the document of a finished report to S3, undoing its compression on the way.

    The document streams: memory stays within some parts of the upload, whatever its size. The object appears
    under its key only when every byte has arrived and every checksum is right; a transfer that fails leaves
    neither an object nor an open upload. Running the task again writes the same key.

    The return value in XCom is a list with one dict per object: ``uri``, ``bytes`` and ``sha256`` (hex, or None)
    of the content as it lies in S3, ``crc32`` (the base64 text that S3 keeps for the whole object) and
    ``content_type``.

    :param report_document_id: the document. Give this or ``report_id``. (templated)
    :param report_id: the report whose document it is; costs one getReport. (templated)
    :param s3_bucket: the bucket. (templated)
    :param s3_key: the key. ``{report_id}``, ``{report_document_id}`` and ``{name}`` (the entry's name in a ZIP)
        are filled in; a ZIP of several files needs ``{name}``. (templated)
    :param s3_uri: bucket and key as ``s3://bucket/key``, instead of the two. (templated)
    :param aws_conn_id: the AWS connection, which needs the extra ``amazon``; None uses boto3's own credential
        chain. (templated)
    :param replace: whether an object of other content under the key is replaced. Where it is not, the same
        content is a success, and other content fails without a retry.
    :param unpack: ``"auto"`` undoes gzip and opens a ZIP, ``"gzip"`` undoes gzip only, ``"none"`` keeps the bytes
        as they came.
    :param sha256: whether to compute the SHA-256; it costs a third of the CPU of a large transfer.
    :param content_type: the objects' content type; by default it is found from the document. (templated)
    :param extra_args: more of S3's own parameters for the objects, such as ``{"StorageClass": "STANDARD_IA"}``.
        (templated)
    :param max_bytes: decoded bytes above which a document is refused.
    :param deferrable: wait in the triggerer for the turn to ask where the document lies.
    :param amazon_business_conn_id: the connection, of type ``amazon_business``. (templated)
    :raises InvalidInputError: a parameter is not allowed; no retry is spent.
    :raises ReportNotReadyError: the report of ``report_id`` has not ended yet.
    :raises ReportFatalError: it ended FATAL, or without a document.
    :raises ReportCancelledError: it ended CANCELLED.
    :raises DocumentError: the document did not arrive whole; :class:`.DocumentPermanentError` where a retry
        cannot help.
    """

    template_fields: Sequence[str] = (
        "report_document_id",
        "report_id",
        "s3_bucket",
        "s3_key",
        "s3_uri",
        "aws_conn_id",
        "content_type",
        "extra_args",
        *AmazonBusinessOperator.template_fields,
    )
    template_fields_renderers = {"extra_args": "json"}

    def __init__(
        self,
        *,
        report_document_id: str | None = None,
        report_id: str | None = None,
        s3_bucket: str | None = None,
        s3_key: str | None = None,
        s3_uri: str | None = None,
        aws_conn_id: str | None = "aws_default",
        replace: bool = True,
        unpack: str = "auto",
        sha256: bool = True,
        content_type: str | None = None,
        extra_args: Mapping[str, Any] | None = None,
        max_bytes: int = MAX_BYTES,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if unpack not in UNPACK:
            raise InvalidInputError(f"unpack is {unpack!r}, but has to be one of {list(UNPACK)}")
        if max_bytes < 1:
            raise InvalidInputError(f"max_bytes is {max_bytes!r}, but has to be at least 1")
        self.report_document_id = report_document_id
        self.report_id = report_id
        self.s3_bucket = s3_bucket
        self.s3_key = s3_key
        self.s3_uri = s3_uri
        self.aws_conn_id = aws_conn_id
        self.replace = replace
        self.unpack = unpack
        self.sha256 = sha256
        self.content_type = content_type
        self.extra_args = extra_args
        self.max_bytes = max_bytes
        # Whether something is given is known before templates are rendered; a mistake shows at parsing.
        self._check_given()

    def execute(self, context: Context) -> list[dict[str, Any]]:
        """Move the document."""
        self._check_given()
        if self.queues_first(context):
            self.wait_for_turn("getReportDocument")
        return self._move(None)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> list[dict[str, Any]]:
        """Move the document, now that it is this task's turn."""
        if event.get("status") == "error":
            raise error_from_dict(event["error"])
        self.accept_turn(event)
        return self._move(event)

    def _move(self, event: Mapping[str, Any] | None) -> list[dict[str, Any]]:
        try:
            return self._copy()
        except ThrottledError as error:
            if self.deferrable and not self.__started:
                self.wait_for_turn("getReportDocument", refused=error, event=event)
            raise

    # Whether the document's URL was given once.
    __started = False

    def _copy(self) -> list[dict[str, Any]]:
        from airflow_provider_amzbiz.documents.to_s3 import copy_to_s3

        bucket, key = self._target()
        self._check_placeholders(key)
        s3 = self._s3_client()
        document_id = self.report_document_id or self._document_of_report()
        names = {"report_id": self.report_id, "report_document_id": document_id}
        with translated_errors():
            stored = copy_to_s3(
                lambda: self._fetch(document_id),
                s3=s3,
                bucket=bucket,
                key=lambda name: _fill(key, {**names, "name": name or document_id}),
                unpack=self.unpack,
                replace=self.replace,
                sha256=self.sha256,
                content_type=self.content_type,
                extra_args=self.extra_args,
                max_bytes=self.max_bytes,
                allow_http=self.hook.is_local,
                log=self.log,
            )
        return [each.to_dict() for each in stored]

    def _check_given(self) -> None:
        if bool(self.report_document_id) == bool(self.report_id):
            raise InvalidInputError(
                f"Exactly one of report_document_id and report_id has to be given, but they are "
                f"{self.report_document_id!r} and {self.report_id!r}"
            )
        by_parts = bool(self.s3_bucket) and bool(self.s3_key)
        if by_parts == bool(self.s3_uri) or (self.s3_uri and (self.s3_bucket or self.s3_key)):
            raise InvalidInputError(
                "Either s3_bucket and s3_key or s3_uri has to be given, but they are "
                f"{self.s3_bucket!r}, {self.s3_key!r} and {self.s3_uri!r}"
            )

    def _target(self) -> tuple[str, str]:
        if self.s3_bucket and self.s3_key:
            return self.s3_bucket, self.s3_key
        match = re.fullmatch(r"s3://([^/]+)/(.+)", self.s3_uri or "", flags=re.DOTALL)
        if match is None:
            raise InvalidInputError(f"s3_uri is {self.s3_uri!r}, but has to be like s3://bucket/key")
        return match[1], match[2]

    def _check_placeholders(self, key: str) -> None:
        known = {"report_document_id", "name"} | ({"report_id"} if self.report_id else set())
        for name in _PLACEHOLDER.findall(key):
            if name not in known:
                raise InvalidInputError(
                    f"The key {key!r} has the placeholder {{{name}}}, but may have only "
                    f"{', '.join(f'{{{each}}}' for each in sorted(known))} here"
                )

    def _s3_client(self) -> Any:
        if self.aws_conn_id is None:
            import boto3

            return boto3.client("s3")
        try:
            from airflow.providers.amazon.aws.hooks.base_aws import AwsGenericHook
        except ImportError as error:
            raise InvalidInputError(
                f"aws_conn_id is {self.aws_conn_id!r}, which needs the extra 'amazon': pip install "
                "'airflow-provider-amzbiz[amazon]', or set aws_conn_id=None for boto3's own credential chain"
            ) from error
        return AwsGenericHook(aws_conn_id=self.aws_conn_id, client_type="s3").conn

    def _document_of_report(self) -> str:
        report = self.hook.get_report(self.report_id or "")
        if not report.is_terminal:
            raise ReportNotReadyError(
                f"Report {report.report_id} is {report.processing_status}, so it has no document yet; wait for it "
                "with ReportStatusSensor"
            )
        document_id: str = settle(report, on_cancelled="fail", hook=self.hook)["report_document_id"]
        return document_id

    def _fetch(self, document_id: str) -> ReportDocument:
        """Get a fresh URL. A document of a report that has just become DONE may not be known at once."""
        # Once a download has begun, its task does not leave the worker.
        hook = self.hook if self.__started else self.queueing_hook
        for pause in _DOCUMENT_GRACE:
            try:
                document = hook.get_report_document(document_id)
                break
            except AmazonBusinessPermanentError as error:
                if error.status not in (400, 404):
                    raise
                self.log.info("Document %s is not known yet; asking again in %s s", document_id, pause)
                time.sleep(pause)
        else:
            document = hook.get_report_document(document_id)
        self.__started = True
        return document


def _fill(key: str, values: Mapping[str, str | None]) -> str:
    return _PLACEHOLDER.sub(lambda match: values[match[1]] or "", key)
