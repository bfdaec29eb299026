"""What S3 may do wrong in a test: reject requests, respond with errors, and lose responses."""

from __future__ import annotations

import io
import zipfile

from botocore.awsrequest import AWSResponse
from botocore.exceptions import ClientError


class RawBody(io.BytesIO):
    """A body as botocore reads it."""

    def stream(self):
        yield self.read()


def error_response(request, status, code):
    """Return an error of S3 as the response to a request."""
    body = f"<Error><Code>{code}</Code><Message>Sent by the test.</Message></Error>".encode()
    return AWSResponse(request.url, status, {"Content-Type": "application/xml"}, RawBody(body))


def rejection(code, operation="PutObject"):
    """Return the error that botocore raises for an error response."""
    return ClientError({"Error": {"Code": code, "Message": "No."}}, operation)


def fail(s3, operation, error, *, at=1):
    """Have an operation fail from its call number ``at`` on; return what ends that."""
    calls = []

    def handler(**_):
        calls.append(None)
        if len(calls) >= at:
            raise error

    s3.meta.events.register(f"before-call.s3.{operation}", handler)
    return lambda: s3.meta.events.unregister(f"before-call.s3.{operation}", handler)


def reject(s3, operation, matches):
    """Have S3 reject those requests of an operation whose parameters match; return what ends that."""

    def handler(params, **_):
        if matches(params):
            raise rejection("SlowDown", operation)

    s3.meta.events.register(f"before-call.s3.{operation}", handler)
    return lambda: s3.meta.events.unregister(f"before-call.s3.{operation}", handler)


def writes(key):
    """Return what recognizes the request that makes an object appear."""

    def matches(request):
        path, _, query = request.url.partition("?")
        completes = request.method == "POST" and "uploadId=" in query
        return path.endswith(key) and (completes or (request.method == "PUT" and not query))

    return matches


def archive(content=b"second"):
    """Return a ZIP of three files, ``1.bin`` to ``3.bin``, the second one with the given content."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as packed:
        for name, each in (("1.bin", b"first"), ("2.bin", content), ("3.bin", b"third")):
            packed.writestr(name, each)
    return file.getvalue()


def two_files(content):
    """Return a ZIP of ``a.txt`` and ``b.txt``, the content and its reverse."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as packed:
        packed.writestr("a.txt", content)
        packed.writestr("b.txt", content[::-1])
    return file.getvalue()
