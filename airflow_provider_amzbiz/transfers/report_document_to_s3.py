"""Moving a report's document to S3 as a task."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow_provider_amzbiz.exceptions import (
    InvalidInputError,
    ReportNotReadyError,
    ThrottledError,
    about_report,
    error_from_dict,
)
from airflow_provider_amzbiz.links import S3ConsoleLink
from airflow_provider_amzbiz.operators.base import check_rendered
from airflow_provider_amzbiz.outcomes import settle
from airflow_provider_amzbiz.transfers.base import (
    DocumentToS3Operator,
    check_placeholders,
    fill,
    place_of,
    without_templates,
)

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_amzbiz.client.models import ReportDocument


class ReportDocumentToS3Operator(DocumentToS3Operator):
    """Moves the document of a finished report to S3, undoing its compression on the way.

    The document streams: memory stays within some parts of the upload, whatever its size. The object appears
    under its key only when every byte has arrived and every checksum is right; a transfer that fails leaves
    neither an object nor an open upload. Running the task again writes the same key.

    The return value in XCom is a list with one dict per object: ``uri``, ``bytes`` and ``sha256`` (hex, or None)
    of the content as it lies in S3, ``crc32`` (the base64 text that S3 keeps for the whole object) and
    ``content_type``. The events of assets in ``outlets`` carry the report's ids and the checksum too.

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
    :param encoding: the charset of a text, which is stored as UTF-8 then: a name, such as ``"Cp1252"`` or
        ``"Windows-31J"``, or ``"declared"`` for the one that the document's Content-Type names. A byte that is no
        character of it fails the task, without a retry. By default, and for PDF, bytes stay as they are.
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
        "s3_uri",
        *DocumentToS3Operator.template_fields,
    )

    def __init__(
        self,
        *,
        report_document_id: str | None = None,
        report_id: str | None = None,
        s3_uri: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.report_document_id = report_document_id
        self.report_id = report_id
        self.s3_uri = s3_uri
        # Whether something is given is known before templates are rendered; a mistake shows at parsing.
        self._check_given()
        # So is what is no template, and a wrong key would show only after the wait for the report.
        for given in (self.s3_key, s3_uri):
            if isinstance(given, str):
                self._check_key(without_templates(given))
        if isinstance(s3_uri, str) and without_templates(s3_uri) == s3_uri:
            self._target()

    def execute(self, context: Context) -> list[dict[str, Any]]:
        """Move the document."""
        check_rendered(self)
        self._check_given()
        self.note_try(context)
        if self.queues_first(context):
            self.wait_for_turn("getReportDocument")
        return self._move(context, None)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> list[dict[str, Any]]:
        """Move the document, now that it is this task's turn."""
        check_rendered(self)
        if event.get("status") == "error":
            with about_report(self.report_id):
                raise error_from_dict(event["error"])
        self.note_try(context)
        self.accept_turn(event)
        return self._move(context, event)

    def _move(self, context: Context, event: Mapping[str, Any] | None) -> list[dict[str, Any]]:
        try:
            with about_report(self.report_id):
                return self._copy(context)
        except ThrottledError as error:
            if self.deferrable and not self.__started and error.operation:
                self.wait_for_turn(error.operation, refused=error, event=event)
            raise

    # Whether the document's URL was given once.
    __started = False

    def _copy(self, context: Context) -> list[dict[str, Any]]:
        from airflow_provider_amzbiz.lineage import Moved

        bucket, key = self._target()
        self._check_key(key)
        s3 = self.s3_client()
        report = self._ended_report() if self.report_id else {}
        document_id: str = self.report_document_id or report["report_document_id"]
        names = {"report_id": self.report_id, "report_document_id": document_id}
        with about_report(report_type=report.get("report_type")):
            objects = self.land(lambda: self._fetch(document_id), s3=s3, bucket=bucket, key=key, names=names)
        S3ConsoleLink.show(self, context, s3, bucket, place_of(fill(key, {**names, "name": "{name}"})))
        self.tell(context, [Moved(report.get("report_type"), self.report_id, document_id, objects)])
        return objects

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

    def _check_key(self, key: str) -> None:
        ids = ("report_id",) if self.report_id else ()
        check_placeholders(key, {"report_document_id", "name", *ids})

    def _target(self) -> tuple[str, str]:
        for name in ("s3_bucket", "s3_key", "s3_uri"):
            value = getattr(self, name)
            if value is not None and not isinstance(value, str):
                raise InvalidInputError(f"{name} is {value!r}, but has to be a text")
        if self.s3_bucket and self.s3_key:
            return self.s3_bucket, self.s3_key
        match = re.fullmatch(r"s3://([^/]+)/(.+)", self.s3_uri or "", flags=re.DOTALL)
        if match is None:
            raise InvalidInputError(f"s3_uri is {self.s3_uri!r}, but has to be like s3://bucket/key")
        return match[1], match[2]

    def _ended_report(self) -> dict[str, Any]:
        report = self.lookup_hook.get_report(self.report_id or "")
        if not report.is_terminal:
            raise ReportNotReadyError(
                f"Report {report.report_id} is {report.processing_status}, so it has no document yet; wait for it "
                "with ReportStatusSensor",
                report_id=report.report_id,
                report_type=report.report_type,
            )
        return settle(report, on_cancelled="fail", amazon_business_conn_id=self.amazon_business_conn_id)

    def _fetch(self, document_id: str) -> ReportDocument:
        # Once a download has begun, its task does not leave the worker.
        document = self.document(self.hook if self.__started else self.queueing_hook, document_id)
        self.__started = True
        return document
