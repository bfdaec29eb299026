"""The document of a report to S3, as a task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal

from airflow_provider_amzbiz.compat import conf
from airflow_provider_amzbiz.documents.s3_location import split_s3_uri
from airflow_provider_amzbiz.documents.upload_options import MAX_BYTES
from airflow_provider_amzbiz.exceptions import (
    InvalidInputError,
    ReportNotReadyError,
    ThrottledError,
    about_report,
)
from airflow_provider_amzbiz.hooks.amazon_business import AmazonBusinessHook
from airflow_provider_amzbiz.links import S3ConsoleLink
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
    from airflow_provider_amzbiz.client.models import ReportDocument
    from airflow_provider_amzbiz.compat import Context


class ReportDocumentToS3Operator(DocumentToS3Operator):
    """Transfers the document of a finished report to S3, and decompresses it on the way.

    The document streams: memory stays within a few parts of the upload, whatever its size. The object appears
    under its key only when every byte has arrived and every checksum matches; a transfer that fails leaves neither
    an object nor an open upload. Running the task again writes the same key.

    The return value in XCom is a list with one dict per object: ``uri``, ``bytes``, ``sha256``, ``crc32`` and
    ``content_type``. Size and checksums are those of the content in S3. ``sha256`` is hex, or None; ``crc32`` is
    the base64 string that S3 stores for the whole object. The events of assets in ``outlets`` also carry the
    report's ids and the checksum.

    .. seealso:: :doc:`/transfer` and :doc:`/documents`

    :param report_document_id: the document. Give either this or ``report_id``. Default None. (templated)
    :param report_id: the report whose document to transfer, at the cost of one getReport call. Default None.
        (templated)
    :param s3_bucket: the bucket, or the alias or ARN of an access point. Default None. (templated)
    :param s3_key: the key. ``{report_id}``, ``{report_document_id}``, ``{name}`` (the entry's name in a ZIP) and
        the names of ``key_values`` are filled in; a ZIP of several files needs ``{name}``. Default None.
        (templated)
    :param s3_uri: bucket and key as ``s3://bucket/key``, instead of ``s3_bucket`` and ``s3_key``. Default None.
        (templated)
    :param key_values: more placeholders of the key and their values, such as ``{"invoiceId": "..."}``: strings,
        numbers or booleans, or a JSON object as a string. A value that the key uses must be non-empty and without
        a slash. Default None. (templated)
    :param replace: whether an object of other content under the key is replaced. If not, the same content is a
        success and other content fails without a retry, at the cost of one or two HEAD requests. Default True,
        unlike Airflow's own transfers to S3: a retry and a cleared task write the same key again. (not templated)
    :param unpack: ``"auto"`` undoes gzip and opens a ZIP, ``"gzip"`` undoes gzip only, the string ``"none"`` keeps
        the bytes; None is refused. Default ``"auto"``. (not templated)
    :param sha256: whether to compute the SHA-256, at the cost of a third of the CPU time of a large transfer.
        Default True. (not templated)
    :param content_type: the objects' content type, a media type such as ``"text/csv"``. Default None, which
        derives it from the document. (templated)
    :param encoding: the charset of text, which is then stored as UTF-8: a name, such as ``"Cp1252"`` or
        ``"Windows-31J"``, or ``"declared"`` for the one in the document's Content-Type. A byte that is no
        character of it fails the task without a retry. Default None, which keeps the bytes, as for all content
        that is not text, such as a PDF. (not templated)
    :param extra_args: more of S3's own parameters for the objects, such as ``{"StorageClass": "STANDARD_IA"}``, or
        a JSON object as a string. Default None. (templated)
    :param max_bytes: limit of the decoded document in bytes, above which it is refused. Default 50 GiB.
        (not templated)
    :param amazon_business_conn_id: the connection, of type ``amazon_business``. Default
        ``"amazon_business_default"``. (templated)
    :param aws_conn_id: the AWS connection, which needs the extra ``amazon`` and must exist; None uses boto3's own
        credential chain. Default ``"aws_default"``. (templated)
    :param max_throttle_wait: seconds, or a timedelta, that one call may wait on the worker for its permit under
        the account's limits before the task fails with :class:`.ThrottledError`, which Airflow retries. In
        deferrable mode, getReportDocument waits in the triggerer instead, for up to seven days. Default 3,600 s.
        (not templated)
    :param deferrable: whether to wait for the permit of getReportDocument in the triggerer. Default Airflow's
        ``[operators] default_deferrable``. (not templated)
    :param kwargs: parameters of Airflow's ``BaseOperator``.
    :raises InvalidInputError: a parameter is not allowed; Airflow does not retry the task.
    :raises ConnectionNotFoundError: Airflow has no connection ``aws_conn_id``.
    :raises ReportNotReadyError: the report of ``report_id`` has not finished yet.
    :raises ReportFatalError: it finished with FATAL, or without a document.
    :raises ReportCancelledError: it is CANCELLED.
    :raises DocumentError: the document did not arrive whole; :class:`.DocumentPermanentError` if a retry cannot
        help.
    """

    template_fields: Sequence[str] = (
        "report_document_id",
        "report_id",
        "s3_uri",
        "key_values",
        *DocumentToS3Operator.template_fields,
    )
    # Whether a URL of the document was issued: from then on the task stays on its worker.
    _has_url = False
    template_fields_renderers = {**DocumentToS3Operator.template_fields_renderers, "key_values": "json"}

    def __init__(
        self,
        *,
        report_document_id: str | None = None,
        report_id: str | None = None,
        s3_bucket: str | None = None,
        s3_key: str | None = None,
        s3_uri: str | None = None,
        key_values: Mapping[str, Any] | str | None = None,
        replace: bool = True,
        unpack: Literal["auto", "gzip", "none"] = "auto",
        sha256: bool = True,
        content_type: str | None = None,
        encoding: str | None = None,
        extra_args: Mapping[str, Any] | str | None = None,
        max_bytes: int = MAX_BYTES,
        amazon_business_conn_id: str = AmazonBusinessHook.default_conn_name,
        aws_conn_id: str | None = "aws_default",
        max_throttle_wait: timedelta | float = 3600.0,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        **kwargs: Any,
    ) -> None:
        super().__init__(
            s3_bucket=s3_bucket,
            s3_key=s3_key,
            replace=replace,
            unpack=unpack,
            sha256=sha256,
            content_type=content_type,
            encoding=encoding,
            extra_args=extra_args,
            max_bytes=max_bytes,
            amazon_business_conn_id=amazon_business_conn_id,
            aws_conn_id=aws_conn_id,
            max_throttle_wait=max_throttle_wait,
            deferrable=deferrable,
            **kwargs,
        )
        self.report_document_id = report_document_id
        self.report_id = report_id
        self.s3_uri = s3_uri
        self.key_values = key_values
        self._check_at_parsing()

    def execute(self, context: Context) -> list[dict[str, Any]]:
        """Transfer the document."""
        self._check_rendered()
        self._check_given()
        self._remember_attempt(context)
        if self._should_queue_first(context):
            self._defer_for_permits("getReportDocument")
        self._expect_others(context, "getReportDocument")
        return self._transfer_or_defer(context, None)

    def execute_complete(self, context: Context, event: dict[str, Any] | None = None) -> list[dict[str, Any]]:
        """Transfer the document, now that the triggerer has acquired the permit."""
        self._check_rendered()
        with about_report(self.report_id):
            granted = read_event(event, PermitGranted)
        self._remember_attempt(context)
        self._apply_permits(granted)
        return self._transfer_or_defer(context, granted)

    def _transfer_or_defer(self, context: Context, event: PermitGranted | None) -> list[dict[str, Any]]:
        try:
            with about_report(self.report_id):
                return self._transfer_document(context)
        except ThrottledError as error:
            if self.deferrable and not self._has_url and error.operation:
                self._defer_for_permits(error.operation, throttled=error, event=event)
            raise

    def _transfer_document(self, context: Context) -> list[dict[str, Any]]:
        from airflow_provider_amzbiz.lineage import MovedDocument

        bucket, key = self._target()
        values = self._check_placeholders(key)
        s3 = self.s3_client()
        report = self._finished_report() if self.report_id else {}
        document_id: str = self.report_document_id or report["report_document_id"]
        names = {**values, "report_id": self.report_id, "report_document_id": document_id}
        with about_report(report_type=report.get("report_type")):
            objects = self._store_document(
                lambda: self._fetch(document_id), s3=s3, bucket=bucket, key=key, names=names
            )
        self.fail_if_killed("The task was ended after it had stored its document, which is complete in S3")
        S3ConsoleLink.show(self, context, s3, bucket, key_prefix(render_key(key, {**names, NAME: "{name}"})))
        self._emit_lineage(
            context, [MovedDocument(report.get("report_type"), self.report_id, document_id, objects)]
        )
        return objects

    def _check_given(self) -> None:
        if bool(self.report_document_id) == bool(self.report_id):
            raise InvalidInputError(
                "Exactly one of report_document_id and report_id must be given, but they are "
                f"{self.report_document_id!r} and {self.report_id!r}"
            )
        by_parts = bool(self.s3_bucket) and bool(self.s3_key)
        if by_parts == bool(self.s3_uri) or (self.s3_uri and (self.s3_bucket or self.s3_key)):
            raise InvalidInputError(
                "Either s3_bucket and s3_key, or s3_uri must be given, but they are "
                f"{self.s3_bucket!r}, {self.s3_key!r} and {self.s3_uri!r}"
            )

    def _check_at_parsing(self) -> None:
        # Which parameters are given is known before templates are rendered.
        self._check_given()
        # A wrong key would fail only after the wait for the report.
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
                f"s3_key is the same for all tasks of a mapped task group, {target[-1]!r}, so each document would "
                "replace the previous one; put a template or a placeholder such as {report_id} into it"
            )

    def _check_placeholders(self, key: str) -> dict[str, str]:
        """Check, before any call, that the key can be filled in; return the values of ``key_values``."""
        values = check_key_values(self.key_values)
        self._check_names(key, values)
        # The values that the document and the API provide are not known yet, and are safe.
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
        check_bucket(f"The bucket in s3_uri {self.s3_uri!r}", found[0])
        check_key(f"The key in s3_uri {self.s3_uri!r}", found[1])
        return found

    def _finished_report(self) -> dict[str, Any]:
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
        # Once a download has begun, its task stays on the worker.
        document = self.document(self.hook if self._has_url else self._nonblocking_hook, document_id)
        self._has_url = True
        return document
