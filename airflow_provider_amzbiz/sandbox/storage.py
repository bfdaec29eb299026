"""The document store: presigned URLs that expire, and downloads that respond as S3 does."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import threading
import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

from airflow_provider_amzbiz.sandbox import documents
from airflow_provider_amzbiz.sandbox.invoices import INVOICE
from airflow_provider_amzbiz.sandbox.marketplaces import AWS_REGIONS
from airflow_provider_amzbiz.sandbox.responses import ApiResponse

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_provider_amzbiz.sandbox.clock import Clock
    from airflow_provider_amzbiz.sandbox.state import SandboxReport

PREFIX = "/documents-store/"


@dataclass
class Download:
    """A part of a stored file, to be sent with these headers."""

    status: int
    headers: dict[str, str]
    path: Path
    start: int
    end: int


class Storage:
    """Keeps documents as files in a folder.

    :param url_seconds: life of a presigned URL in sandbox seconds.
    """

    def __init__(self, clock: Clock, folder: Path, url_seconds: float) -> None:
        self.base_url = ""
        self._clock = clock
        self._folder = folder
        self._url_seconds = url_seconds
        self._key = secrets.token_bytes(32)
        # Signed by a role, as Amazon's are, which makes a URL longer than 512 characters.
        self._session_token = base64.b64encode(secrets.token_bytes(240)).decode()
        self._key_id = str(uuid.uuid4())
        self._reports: dict[str, SandboxReport] = {}
        self._making: dict[str, threading.Lock] = {}
        # Incremented by a fault, so that the same content gets another ETag.
        self.etag_generation = 0

    def describe(self, report: SandboxReport) -> dict[str, Any]:
        """Return the ReportDocument object, with a new URL."""
        name = _name(report)
        self._reports[name] = report
        now = self._clock.now()
        scope = f"{now:%Y%m%d}/{AWS_REGIONS[report.region]}/s3/aws4_request"
        query = (
            "response-content-encoding=identity"
            f"&X-Amz-Security-Token={quote(self._session_token, safe='')}"
            "&X-Amz-Algorithm=AWS4-HMAC-SHA256"
            f"&X-Amz-Date={now:%Y%m%dT%H%M%SZ}"
            "&X-Amz-SignedHeaders=host"
            f"&X-Amz-Expires={int(self._url_seconds)}"
            f"&X-Amz-Credential={quote(f'ASIASANDBOX/{scope}', safe='')}"
        )
        host = urlsplit(self.base_url).netloc
        url = f"{self.base_url}{PREFIX}{name}?{query}&X-Amz-Signature={self._sign('GET', host, name, query)}"
        document = {"reportDocumentId": report.document_id, "url": url}
        algorithm = report.document.compression_algorithm if report.document else "GZIP"
        return document | ({"compressionAlgorithm": algorithm} if algorithm else {})

    def check(self, method: str, path: str, query: str, headers: Mapping[str, str]) -> ApiResponse | None:
        """Return the rejection of a download, or None if it is allowed."""
        name = unquote(path.removeprefix(PREFIX))
        given = {key: values[0] for key, values in parse_qs(query).items()}
        signatures = parse_qs(query).get("X-Amz-Signature", [])
        if "authorization" in headers:
            return xml(
                400,
                "InvalidArgument",
                "Only one auth mechanism allowed; only the X-Amz-Algorithm query parameter, "
                "Signature query string parameter or the Authorization header should be specified",
            )
        if not signatures:
            return xml(403, "AccessDenied", "No AWSAccessKey was presented.")
        right = self._sign(method, headers.get("host", ""), name, query)
        if name not in self._reports or signatures != [right]:
            return self._bad_signature()
        if any(header.startswith("x-amz-") for header in headers):
            # S3 wants every x-amz header signed, and only the host is.
            return self._bad_signature()
        signed_at = datetime.strptime(given["X-Amz-Date"] + "+0000", "%Y%m%dT%H%M%SZ%z")
        expires = signed_at + timedelta(seconds=int(given["X-Amz-Expires"]))
        return self.expired(expires) if self._clock.now() >= expires else None

    def expired(self, expires: datetime | None = None) -> ApiResponse:
        """Return S3's response to an expired URL."""
        now = self._clock.now()
        more = (
            f"<X-Amz-Expires>{int(self._url_seconds)}</X-Amz-Expires>"
            f"<Expires>{expires or now:%Y-%m-%dT%H:%M:%SZ}</Expires>"
            f"<ServerTime>{now:%Y-%m-%dT%H:%M:%SZ}</ServerTime>"
        )
        return xml(403, "AccessDenied", "Request has expired", more)

    def open(self, path: str, headers: Mapping[str, str], *, honour_range: bool) -> Download | ApiResponse:
        """Return what to send; may take long, because a document is generated when it is first requested."""
        name = unquote(path.removeprefix(PREFIX))
        report = self._reports[name]
        file = self.file(report)
        size = file.stat().st_size
        etag = self._etag(report, size)
        common = {
            "x-amz-id-2": secrets.token_urlsafe(48),
            "x-amz-request-id": secrets.token_hex(8).upper(),
            "Last-Modified": format_datetime(report.ends, usegmt=True),
            "ETag": etag,
            "Accept-Ranges": "bytes",
            "Content-Type": _content_type(report),
            "Server": "AmazonS3",
            "x-amz-server-side-encryption": "aws:kms",
            "x-amz-server-side-encryption-aws-kms-key-id": self._kms_key(report),
            "x-amz-server-side-encryption-bucket-key-enabled": "true",
            "x-amz-version-id": hashlib.sha256(etag.encode()).hexdigest()[:32],
        }
        encoding = report.document.content_encoding if report.document else "identity"
        if encoding:
            common["Content-Encoding"] = encoding
        if "if-match" in headers and not _names(headers["if-match"], etag):
            return xml(412, "PreconditionFailed", "At least one of the pre-conditions you specified did not hold")
        if "if-none-match" in headers and _names(headers["if-none-match"], etag):
            return ApiResponse(304, b"", common)
        same = headers.get("if-range", etag) in (etag, common["Last-Modified"])
        asked = headers.get("range") if honour_range and same else None
        span = _range(asked, size)
        if span is None:
            return Download(200, {**common, "Content-Length": str(size)}, file, 0, size)
        start, end = span
        if start >= size:
            error = xml(416, "InvalidRange", "The requested range is not satisfiable")
            error.headers["Content-Range"] = f"bytes */{size}"
            return error
        length = {"Content-Length": str(end - start), "Content-Range": f"bytes {start}-{end - 1}/{size}"}
        return Download(206, {**common, **length}, file, start, end)

    def file(self, report: SandboxReport) -> Path:
        """Return the file of a report's document, which is generated when it is first requested."""
        name = _name(report)
        with self._making.setdefault(name, threading.Lock()):
            file = self._folder / name
            if not file.exists():
                _write(report, file)
            return file

    def _kms_key(self, report: SandboxReport) -> str:
        return f"arn:aws:kms:{AWS_REGIONS[report.region]}:123456789012:key/{self._key_id}"

    def _etag(self, report: SandboxReport, size: int) -> str:
        if report.document and report.document.etag and not self.etag_generation:
            return report.document.etag
        identity = f"{report.document_id} {size} {self.etag_generation}"
        return f'"{hashlib.md5(identity.encode(), usedforsecurity=False).hexdigest()}"'

    def _sign(self, method: str, host: str, name: str, query: str) -> str:
        # Amazon's signature covers the method, the host, the path, and every parameter but itself.
        parts = sorted(part for part in query.split("&") if not part.startswith("X-Amz-Signature="))
        text = "\n".join([method, host, name, *parts])
        return hmac.new(self._key, text.encode(), hashlib.sha256).hexdigest()

    def _bad_signature(self) -> ApiResponse:
        message = "The request signature we calculated does not match the signature you provided."
        return xml(403, "SignatureDoesNotMatch", message)


def error_of_status(status: int) -> ApiResponse:
    """Return a failure of the storage itself."""
    code = {403: "AccessDenied", 404: "NoSuchKey", 500: "InternalError", 503: "SlowDown"}
    return xml(status, code.get(status, "InternalError"), "The storage cannot serve this request.")


def _names(header: str, etag: str) -> bool:
    return header.strip() == "*" or etag in (each.strip() for each in header.split(","))


def xml(status: int, code: str, message: str, more: str = "") -> ApiResponse:
    """Return an error as S3 words it."""
    body = (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f"<Error><Code>{code}</Code><Message>{message}</Message>{more}"
        f"<RequestId>{secrets.token_hex(8).upper()}</RequestId><HostId>{secrets.token_urlsafe(24)}</HostId></Error>"
    )
    return ApiResponse(status, body.encode(), {"Content-Type": "application/xml", "Server": "AmazonS3"})


def _name(report: SandboxReport) -> str:
    content = uuid.uuid5(uuid.NAMESPACE_URL, report.document_id)
    return f"{content}.amzn1.tortuga.4.{report.region}.T{report.report_id}"


def _write(report: SandboxReport, file: Path) -> None:
    """Write a report's document, under another name first, so that an incomplete one is never served."""
    part = file.with_name(file.name + ".part")
    options = report.report_options
    if report.document:
        part.write_bytes(report.document.body)
    elif report.outcome == "FATAL_WITH_DOCUMENT":
        part.write_bytes(documents.fatal_reason(options))
    elif report.report_type == INVOICE:
        # An added report, or one that a script makes DONE, may name none.
        name = options.get("invoiceId") or options.get("orderId") or "invoice"
        names = [f"{name}-{number}" for number in (1, 2, 3)] if name.startswith("MULTI") else [name]
        part.write_bytes(documents.invoice(names))
    else:
        window = f"{report.data_start_time:%FT%T} {report.data_end_time:%FT%T}"
        seed = f"{report.report_type} {window} {sorted(options.items())}"
        documents.write_order_lines(
            part,
            seed,
            rows=int(options["rows"]) if "rows" in options else None,
            size=int(options["bytes"]) if "bytes" in options else None,
        )
    part.rename(file)


def _content_type(report: SandboxReport) -> str:
    if report.document:
        return report.document.content_type
    if report.report_type == INVOICE:
        return "application/octet-stream"
    return "text/tab-separated-values; charset=UTF-8"


def _range(header: str | None, size: int) -> tuple[int, int] | None:
    """Return start and end (exclusive) of a single byte range, None for a header to ignore."""
    first, dash, last = (header or "").removeprefix("bytes=").partition("-")
    if not (header or "").startswith("bytes=") or not dash or "," in last:
        return None
    if first.isdecimal() and (last.isdecimal() or not last):
        if last and int(last) < int(first):
            return None
        return int(first), min(int(last) + 1, size) if last else size
    if not first and last.isdecimal():
        return max(size - int(last), 0), size
    return None
