"""The sandbox's routes, and how it produces faults and broken connections."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from email.utils import format_datetime
from urllib.parse import unquote

from fastapi import FastAPI, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from airflow_provider_amzbiz.sandbox import validation
from airflow_provider_amzbiz.sandbox.backend import Backend
from airflow_provider_amzbiz.sandbox.control import control_router
from airflow_provider_amzbiz.sandbox.faults import Fault
from airflow_provider_amzbiz.sandbox.responses import (
    ApiResponse,
    ErrorResponse,
    no_operation,
    quota_exceeded,
    with_gateway_headers,
)
from airflow_provider_amzbiz.sandbox.state import SandboxAccount
from airflow_provider_amzbiz.sandbox.static import static_response
from airflow_provider_amzbiz.sandbox.storage import PREFIX, Download, error_of_status

REPORTS = "/reports/2021-09-30/reports"
DOCUMENTS = "/reports/2021-09-30/documents"
_METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]
_CHUNK = 64 * 1024

Operation = Callable[[SandboxAccount], ApiResponse]


class DropConnection(Response):
    """Breaks the connection instead of sending a response."""

    async def __call__(self, scope: Scope, _receive: Receive, _send: Send) -> None:
        """Send nothing."""
        scope["transport"].abort()


class FileResponse(Response):
    """Sends a part of a file, altered by the faults."""

    def __init__(self, download: Download, faults: list[Fault], date: str) -> None:
        super().__init__(status_code=download.status)
        self._download = download
        self._faults = {fault.kind: fault for fault in faults}
        headers = {**download.headers, "Date": date}
        if "no_length" in self._faults:
            del headers["Content-Length"]
        if "content_encoding" in self._faults:
            headers["Content-Encoding"] = "gzip"
        self.raw_headers = [(name.lower().encode(), value.encode()) for name, value in headers.items()]

    async def __call__(self, scope: Scope, _receive: Receive, send: Send) -> None:
        """Send the file, chunk after chunk."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        left = self._download.end - self._download.start
        limit = min(left, self._limit())
        with self._download.path.open("rb") as file:
            file.seek(self._download.start)
            sent = 0
            while sent < limit and not scope["transport"].is_closing():
                chunk = await run_in_threadpool(file.read, min(self._chunk(), limit - sent))
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
                sent += len(chunk)
                await asyncio.sleep(self._pause(len(chunk)))
        if "stall" in self._faults:
            await asyncio.sleep(self._faults["stall"].seconds)
        if limit < left:
            # Closes after the buffer has been sent, so that exactly these bytes arrive.
            scope["transport"].close()
            return
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    def _limit(self) -> int:
        return min(
            (self._faults[kind].bytes for kind in ("cut", "stall") if kind in self._faults),
            default=self._download.end,
        )

    def _chunk(self) -> int:
        slow = self._faults.get("slow")
        return max(1, slow.bytes_per_second // 20) if slow else _CHUNK

    def _pause(self, size: int) -> float:
        slow = self._faults.get("slow")
        return size / slow.bytes_per_second if slow else 0.0


def make_app(sandbox: Backend) -> FastAPI:
    """Return the application of a sandbox."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
    app.include_router(control_router(sandbox))
    _add_reports(app, sandbox)

    @app.post("/auth/o2/token")
    @app.post("/auth/O2/token")
    async def token(request: Request) -> Response:
        body = await request.body()
        kind = request.headers.get("content-type", "")
        return await _with_faults(
            sandbox, request, "token", lambda: sandbox.lwa.exchange(sandbox.accounts, body, kind)
        )

    @app.api_route(PREFIX + "{name}", methods=_METHODS)
    async def document(request: Request) -> Response:
        return await _download(sandbox, request)

    # The last route, because it matches every path.
    @app.api_route("/{anything:path}", methods=_METHODS)
    async def unknown() -> Response:
        return _response(sandbox, with_gateway_headers(no_operation(), None))

    return app


def _add_reports(app: FastAPI, sandbox: Backend) -> None:
    """Add the five operations of the Reports API."""
    operations = sandbox.operations

    @app.post(REPORTS)
    async def create_report(request: Request) -> Response:
        body = await request.body()
        return await _operate(
            sandbox, request, "createReport", lambda account: operations.create_report(account, body)
        )

    @app.get(REPORTS)
    async def get_reports(request: Request) -> Response:
        query = request.url.query
        return await _operate(
            sandbox, request, "getReports", lambda account: operations.get_reports(account, query)
        )

    @app.get(REPORTS + "/{report_id}")
    async def get_report(request: Request, report_id: str) -> Response:
        return await _operate(
            sandbox, request, "getReport", lambda account: operations.get_report(account, unquote(report_id))
        )

    @app.delete(REPORTS + "/{report_id}")
    async def cancel_report(request: Request, report_id: str) -> Response:
        return await _operate(
            sandbox, request, "cancelReport", lambda account: operations.cancel_report(account, unquote(report_id))
        )

    @app.get(DOCUMENTS + "/{document_id}")
    async def get_report_document(request: Request, document_id: str) -> Response:
        return await _operate(
            sandbox,
            request,
            "getReportDocument",
            lambda account: operations.get_report_document(account, unquote(document_id)),
        )


async def _operate(sandbox: Backend, request: Request, name: str, operation: Operation) -> Response:
    """Authenticate the caller, take a permit, and carry out the operation."""
    body = await request.body()
    rate: list[str] = []

    def carry_out() -> ApiResponse:
        headers = request.headers
        account = sandbox.lwa.account_of(headers.get("x-amz-access-token"))
        sandbox.check_access(account)
        if sandbox.throttle and not account.buckets.take(name):
            return with_gateway_headers(quota_exceeded(), None)
        rate.append(account.buckets.header(name))
        has_body = request.method == "POST"
        validation.headers(headers.get("user-agent"), headers.get("content-type"), has_body=has_body)
        if sandbox.static:
            return static_response(request.method, request.url.path, request.url.query, body)
        return operation(account)

    def respond() -> ApiResponse:
        try:
            response = carry_out()
        except ErrorResponse as error:
            response = error.response
        return with_gateway_headers(response, rate[0] if rate else None)

    return await _with_faults(sandbox, request, name, respond)


async def _with_faults(
    sandbox: Backend, request: Request, name: str, carry_out: Callable[[], ApiResponse]
) -> Response:
    call = sandbox.record(name, request, await request.body())
    faults = {fault.kind: fault for fault in sandbox.take_faults(name)}
    if "delay" in faults:
        await asyncio.sleep(faults["delay"].seconds)
    if "drop" in faults:
        return DropConnection()
    if "expire_token" in faults:
        sandbox.lwa.expire_all()
        response = with_gateway_headers(sandbox.lwa.expired().response, None)
    elif fault := faults.get("status") or faults.get("redirect"):
        response = with_gateway_headers(fault.response(), None)
    else:
        with sandbox.lock:
            response = carry_out()
        if "lost" in faults:
            return DropConnection()
        if "lost_status" in faults:
            response = with_gateway_headers(faults["lost_status"].response(), None)
        elif "empty" in faults:
            response = ApiResponse(200, b"", response.headers)
    call.status = response.status
    return _response(sandbox, response)


async def _download(sandbox: Backend, request: Request) -> Response:
    call = sandbox.record("document", request, b"")
    faults = sandbox.take_faults("document")
    kinds = {fault.kind: fault for fault in faults}
    if "delay" in kinds:
        await asyncio.sleep(kinds["delay"].seconds)
    if "drop" in kinds:
        return DropConnection()
    if "change_etag" in kinds:
        sandbox.storage.etag_generation += 1
    response: ApiResponse | Download | None
    if fault := kinds.get("status") or kinds.get("redirect"):
        xml_error = fault.kind == "status" and fault.body == "json"
        response = error_of_status(fault.status) if xml_error else fault.response()
    elif "expire_url" in kinds:
        response = sandbox.storage.expired()
    else:
        response = sandbox.storage.check(request.method, request.url.path, request.url.query, request.headers)
        if response is None:
            honour = "no_range" not in kinds
            response = await run_in_threadpool(
                sandbox.storage.open, request.url.path, request.headers, honour_range=honour
            )
    call.status = response.status
    if isinstance(response, ApiResponse):
        return _response(sandbox, response)
    return FileResponse(response, faults, _date(sandbox))


def _response(sandbox: Backend, response: ApiResponse) -> Response:
    return Response(response.body, response.status, {**response.headers, "Date": _date(sandbox)})


def _date(sandbox: Backend) -> str:
    # The server's own header would have the real time, from which a caller would misjudge the sandbox's clock.
    return format_datetime(sandbox.clock.now(), usegmt=True)
