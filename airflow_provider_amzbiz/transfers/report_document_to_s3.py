"""Moving a report's document to S3 as a task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow_provider_amzbiz.documents.s3_location import split_s3_uri
from airflow_provider_amzbiz.exceptions import (
    InvalidInputError,
    ReportNotReadyError,
    ThrottledError,
    about_report,
)
from airflow_provider_amzbiz.links import S3ConsoleLink
from airflow_provider_amzbiz.operators.base import check_rendered
from airflow_provider_amzbiz.report_status import raise_for_status
from airflow_provider_amzbiz.transfers.base import DocumentToS3Operator
from airflow_provider_amzbiz.transfers.keys import (
    NAME,
    check_bucket,
    check_bucket_at_parsing,
    check_key,
    check_key_at_parsing,
    check_key_values,
    check_placeholders,
    is_constant,
    key_prefix,
    render_key,
    strip_jinja,
)
from airflow_provider_amzbiz.triggers.events import PermitGranted, read_event

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
    :param s3_bucket: the bucket, or the alias or ARN of an access point. (templated)
    :param s3_key: the key. ``{report_id}``, ``{report_document_id}``, ``{name}`` (the entry's name in a ZIP) and
        the names of ``key_values`` are filled in; a ZIP of several files needs ``{name}``. (templated)
    :param s3_uri: bucket and key as ``s3://bucket/key``, instead of the two. (templated)
    :param key_values: further placeholders of the key and their values, such as ``{"invoiceId": "..."}``: strings,
        numbers or booleans, or a JSON object as a string. A value that the key uses must be non-empty and without
        a slash. (templated)
    :param aws_conn_id: the AWS connection, which needs the extra ``amazon`` and must exist; None uses boto3's own
        credential chain. (templated)
    :param replace: whether an object of other content under the key is replaced. Where it is not, the same
        content is a success, and other content fails without a retry; it costs a HEAD or two.
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
    :raises ConnectionNotFoundError: Airflow has no connection ``aws_conn_id``.
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
        "key_values",
        *DocumentToS3Operator.template_fields,
    )
    template_fields_renderers = {**DocumentToS3Operator.template_fields_renderers, "key_values": "json"}

    def __init__(
        self,
        *,
        report_document_id: str | None = None,
        report_id: str | None = None,
        s3_uri: str | None = None,
        key_values: Mapping[str, Any] | str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.report_document_id = report_document_id
        self.report_id = report_id
        self.s3_uri = s3_uri
        self.key_values = key_values
        # Whether something is given is known before templates are rendered; a mistake shows at parsing.
        self._check_given()
        # So is what is no template, and a wrong key would show only after the wait for the report.
        self._check_target_at_parsing()

    def execute(self, context: Context) -> list[dict[str, Any]]:
        """Move the document."""
        check_rendered(self)
        self._check_given()
        self._remember_attempt(context)
        if self._should_queue_first(context):
            self._defer_for_permits("getReportDocument")
        return self._move(context, None)

    def execute_complete(self, context: Context, event: dict[str, Any] | None = None) -> list[dict[str, Any]]:
        """Move the document, now that it is this task's turn."""
        check_rendered(self)
        with about_report(self.report_id):
            granted = read_event(event, PermitGranted)
        self._remember_attempt(context)
        self._apply_permits(granted)
        return self._move(context, granted)

    def _move(self, context: Context, event: PermitGranted | None) -> list[dict[str, Any]]:
        try:
            with about_report(self.report_id):
                return self._copy(context)
        except ThrottledError as error:
            if self.deferrable and not self.__started and error.operation:
                self._defer_for_permits(error.operation, throttled=error, event=event)
            raise

    # Whether the document's URL was given once.
    __started = False

    def _copy(self, context: Context) -> list[dict[str, Any]]:
        from airflow_provider_amzbiz.lineage import MovedDocument

        bucket, key = self._target()
        values = self._check_placeholders(key)
        s3 = self.s3_client()
        report = self._ended_report() if self.report_id else {}
        document_id: str = self.report_document_id or report["report_document_id"]
        names = {**values, "report_id": self.report_id, "report_document_id": document_id}
        with about_report(report_type=report.get("report_type")):
            objects = self._store_document(
                lambda: self._fetch(document_id), s3=s3, bucket=bucket, key=key, names=names
            )
        self.fail_if_killed("The task was ended when it had moved its document, which is in S3, whole")
        S3ConsoleLink.show(self, context, s3, bucket, key_prefix(render_key(key, {**names, NAME: "{name}"})))
        self._emit_lineage(
            context, [MovedDocument(report.get("report_type"), self.report_id, document_id, objects)]
        )
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

    def _check_target_at_parsing(self) -> None:
        if isinstance(self.s3_bucket, str):
            check_bucket_at_parsing("s3_bucket", self.s3_bucket)
        for name in ("s3_key", "s3_uri"):
            given = getattr(self, name)
            if not isinstance(given, str):
                continue
            if name == "s3_key":
                check_key_at_parsing(name, given)
            elif strip_jinja(given) == given:
                self._target()
            if self.key_values is None or isinstance(self.key_values, Mapping):
                self._check_names(strip_jinja(given), self.key_values or {})
        target = (self.s3_uri,) if self.s3_uri else (self.s3_bucket, self.s3_key)
        if all(is_constant(each) for each in (*target, self.aws_conn_id)) and any(self.iter_mapped_task_groups()):
            raise InvalidInputError(
                f"s3_key is the same for all tasks of a mapped task group, {target[-1]!r}, so that each document "
                "would replace the one before; put a template or a placeholder such as {report_id} into it"
            )

    def _check_placeholders(self, key: str) -> dict[str, str]:
        """Check, before any call, that the key can be filled in; return the values of ``key_values``."""
        values = check_key_values(self.key_values)
        self._check_names(key, values)
        # What the document and the API give is not known yet, and is safe.
        render_key(key, {**values, "report_id": self.report_id, "report_document_id": "x", NAME: "x"})
        return values

    def _check_names(self, key: str, values: Mapping[str, Any]) -> None:
        own = {"report_id", "report_document_id", NAME}
        if taken := own & set(values):
            raise InvalidInputError(f"key_values has {min(taken)!r}, but must have none of {sorted(own)}")
        check_placeholders(key, {*values, *(own if self.report_id else own - {"report_id"})})

    def _target(self) -> tuple[str, str]:
        for name in ("s3_bucket", "s3_key", "s3_uri"):
            value = getattr(self, name)
            if value is not None and not isinstance(value, str):
                raise InvalidInputError(f"{name} is {value!r}, but must be a string")
        if self.s3_bucket and self.s3_key:
            check_bucket("s3_bucket", self.s3_bucket)
            check_key("s3_key", self.s3_key)
            return self.s3_bucket, self.s3_key
        found = split_s3_uri(self.s3_uri or "")
        if found is None:
            raise InvalidInputError(
                f"s3_uri is {self.s3_uri!r}, but must be like s3://bucket/key or s3://<ARN of an access point>/key"
            )
        check_bucket("s3_uri", found[0])
        check_key("s3_uri", found[1])
        return found

    def _ended_report(self) -> dict[str, Any]:
        report = self.lookup_hook.get_report(self.report_id or "")
        if not report.is_terminal:
            raise ReportNotReadyError(
                f"Report {report.report_id} is {report.processing_status}, so it has no document yet; wait for it "
                "with ReportStatusSensor",
                report_id=report.report_id,
                report_type=report.report_type,
            )
        return raise_for_status(report, on_cancelled="fail", amazon_business_conn_id=self.amazon_business_conn_id)

    def _fetch(self, document_id: str) -> ReportDocument:
        # Once a download has begun, its task does not leave the worker.
        document = self.document(self.hook if self.__started else self._nonblocking_hook, document_id)
        self.__started = True
        return document
