"""The sandbox as an object: start it, script it, ask it what happened."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import uvicorn

from airflow_provider_amzbiz.sandbox.app import Protocol, make_app
from airflow_provider_amzbiz.sandbox.clock import Clock
from airflow_provider_amzbiz.sandbox.documents import RawDocument
from airflow_provider_amzbiz.sandbox.lwa import Lwa
from airflow_provider_amzbiz.sandbox.operations import Operations
from airflow_provider_amzbiz.sandbox.state import (
    SandboxAccount,
    SandboxReport,
    Script,
    new_report,
    random_account,
)
from airflow_provider_amzbiz.sandbox.storage import Storage
from airflow_provider_amzbiz.sandbox.throttle import PLANS, Buckets

if TYPE_CHECKING:
    from fastapi import Request

    from airflow_provider_amzbiz.sandbox.faults import Fault


@dataclass
class Call:
    """A request that arrived: ``operation`` is an operation id, ``token`` or ``document``.

    :ivar headers: names in lower case; they include the access token.
    :ivar status: of the answer, or None where there was none.
    :ivar at: sandbox time.
    """

    operation: str
    method: str
    path: str
    query: str
    body: bytes
    headers: dict[str, str]
    at: datetime
    status: int | None = None


class _Server(uvicorn.Server):
    """Stops at once: nobody waits for an answer that a fault holds back, nor for the next tick."""

    _halted: tuple[asyncio.AbstractEventLoop, asyncio.Event] | None = None

    async def main_loop(self) -> None:
        """Tick as uvicorn does, until it is told to halt."""
        halted = asyncio.Event()
        self._halted = asyncio.get_running_loop(), halted
        tick = 0
        while not await self.on_tick(tick):
            tick += 1
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(halted.wait(), 0.1)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Break what is still open, instead of waiting for it."""
        for server in self.servers:
            server.close()
        for each in sockets or ():
            each.close()
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        for task in list(self.server_state.tasks):
            task.cancel()

    def halt(self) -> None:
        """Make it stop, from another thread that knows it to be running."""
        self.should_exit = True
        if self._halted:
            loop, halted = self._halted
            loop.call_soon_threadsafe(halted.set)


class Sandbox:
    """The Amazon Business Reports API on 127.0.0.1, with Login with Amazon and a document store.

    Use it as a context manager, or call :meth:`start` and :meth:`stop`.

    :param port: port, or 0 for a free one.
    :param host: address to listen on.
    :param time_scale: sandbox seconds per real second, for report times, limits, tokens and URLs alike.
    :param throttle: whether calls beyond the limits are answered 429.
    :param queue_seconds: sandbox seconds that a report is IN_QUEUE.
    :param processing_seconds: sandbox seconds that it is IN_PROGRESS after that.
    :param not_found_seconds: sandbox seconds for which getReport does not know a new report.
    :param url_seconds: life of a document URL in sandbox seconds.
    :param token_seconds: life of an access token in sandbox seconds.
    :param plan: the limits: ``2026``, ``2025`` (before February 2026) or ``sandbox``.
    :param static: answer as Amazon's static sandbox: its ten cases and nothing else.
    :param reject_with_401: refuse tokens with 401, as the spec has it, instead of 403, as the gateway does.
    :param credentials: ``client_id``, ``client_secret``, ``refresh_token`` instead of made ones.
    """

    def __init__(
        self,
        port: int = 0,
        *,
        host: str = "127.0.0.1",
        time_scale: float = 1.0,
        throttle: bool = True,
        queue_seconds: float = 5.0,
        processing_seconds: float = 5.0,
        not_found_seconds: float = 0.0,
        url_seconds: float = 300,
        token_seconds: float = 3600,
        plan: str = "2026",
        static: bool = False,
        reject_with_401: bool = False,
        **credentials: str,
    ) -> None:
        if plan not in PLANS:
            raise ValueError(f"plan is {plan!r}, but has to be one of {sorted(PLANS)}")
        if time_scale <= 0:
            raise ValueError(f"time_scale is {time_scale!r}, but has to be above 0")
        self.clock = Clock(time_scale)
        self.throttle = throttle
        self.static = static
        # One request at a time changes what is remembered; scripts and questions come from other threads.
        self.lock = threading.RLock()
        self._plan = "sandbox" if static else plan
        self._seconds = {"queue_seconds": queue_seconds, "processing_seconds": processing_seconds}
        self._folder = tempfile.TemporaryDirectory(prefix="amzbiz-sandbox-")
        self.storage = Storage(self.clock, Path(self._folder.name), url_seconds)
        self.lwa = Lwa(self.clock, token_seconds, 401 if reject_with_401 else 403)
        self.operations = Operations(
            self.clock, self.storage, not_found_seconds=not_found_seconds, **self._seconds
        )
        self._account = random_account(self._buckets(), **credentials)
        self.accounts = [self._account]
        self._calls: list[Call] = []
        self._faults: list[Fault] = []
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._socket = socket.create_server((host, port), family=family)
        # One cannot connect to "all addresses", so that the name of the machine stands for them.
        name = socket.gethostname() if host in ("", "0.0.0.0", "::") else host  # noqa: S104
        name = f"[{name}]" if ":" in name else name
        self.url = f"http://{name}:{self._socket.getsockname()[1]}"
        self.storage.base_url = self.url
        self.token_url = f"{self.url}/auth/o2/token"
        config = uvicorn.Config(
            make_app(self),
            http=Protocol,
            log_level="critical",
            lifespan="off",
            access_log=False,
            server_header=False,
            date_header=False,
        )
        self._server = _Server(config)
        self._thread = threading.Thread(
            target=self._server.run,
            kwargs={"sockets": [self._socket]},
            name="amazon-business-sandbox",
            daemon=True,
        )

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start serving; the port is open already, so that a first request only waits."""
        self._thread.start()

    def stop(self) -> None:
        """Stop serving and remove the documents. Once stopped, it cannot be started again."""
        if self._thread.is_alive():
            self._server.halt()
            self._thread.join()
        self._socket.close()
        self._folder.cleanup()

    @property
    def client_id(self) -> str:
        """LWA client id of the built-in account."""
        return self._account.client_id

    @property
    def client_secret(self) -> str:
        """LWA client secret of the built-in account."""
        return self._account.client_secret

    @property
    def refresh_token(self) -> str:
        """LWA refresh token of the built-in account."""
        return self._account.refresh_token

    @property
    def connection(self) -> dict[str, Any]:
        """The built-in account as an Airflow connection in its JSON form."""
        return {
            "conn_type": "amazon_business",
            "login": self.client_id,
            "password": self.client_secret,
            "host": self.url,
            "extra": {
                "refresh_token": self.refresh_token,
                "token_url": self.token_url,
                "marketplace_ids": "ATVPDKIKX0DER",
            },
        }

    @property
    def calls(self) -> list[Call]:
        """All requests so far, in the order of their arrival."""
        with self.lock:
            return list(self._calls)

    @property
    def reports(self) -> dict[str, SandboxReport]:
        """All reports by id, of all accounts, in the order of their creation."""
        with self.lock:
            found = [report for account in self.accounts for report in account.reports.values()]
            return {report.report_id: report for report in sorted(found, key=lambda each: each.number)}

    def count(self, operation: str, status: int | None = None) -> int:
        """Return how many requests there were of an operation, or of those with an answer's status."""
        return sum(
            call.operation == operation and (status is None or call.status == status) for call in self.calls
        )

    def inject(self, fault: Fault) -> None:
        """Make something go wrong; see :class:`.Fault`."""
        with self.lock:
            self._faults.append(fault)

    @property
    def faults(self) -> list[Fault]:
        """The faults that are still to happen."""
        with self.lock:
            return [fault for fault in self._faults if fault.times != 0]

    def clear_faults(self) -> None:
        """Take back all faults."""
        with self.lock:
            self._faults.clear()

    def script(
        self,
        outcome: str = "DONE",
        *,
        document: RawDocument | bytes | None = None,
        queue_seconds: float | None = None,
        processing_seconds: float | None = None,
        extra_fields: Mapping[str, Any] | None = None,
        times: int = 1,
    ) -> None:
        """Decide how the next reports of the built-in account go.

        :param outcome: DONE, CANCELLED, FATAL, FATAL_WITH_DOCUMENT, DONE_WITHOUT_DOCUMENT, or any other text,
            which is then the report's status for ever.
        :param document: what it contains instead of its type's usual content; bytes are called GZIP if they are.
        :param queue_seconds: sandbox seconds IN_QUEUE; None for the usual.
        :param processing_seconds: sandbox seconds IN_PROGRESS; None for the usual.
        :param extra_fields: more fields of the Report object.
        :param times: for how many reports.
        """
        if isinstance(document, bytes):
            document = RawDocument(document, "GZIP" if document.startswith(b"\x1f\x8b") else None)
        script = Script(outcome, document, queue_seconds, processing_seconds, dict(extra_fields or {}), times)
        with self.lock:
            self._account.scripts.append(script)

    def add_report(
        self,
        report_type: str = "SANDBOX_ORDER_LINES",
        *,
        marketplace_ids: list[str] | None = None,
        report_options: dict[str, str] | None = None,
        status: str = "DONE",
        created: datetime | None = None,
    ) -> str:
        """Plant a report of the built-in account, as if somebody else had created it; return its id.

        :param status: its status: IN_QUEUE and IN_PROGRESS are for ever.
        :param created: its creation time, aware; by default now.
        """
        report = new_report(
            self.clock,
            report_type=report_type,
            marketplace_ids=marketplace_ids or ["ATVPDKIKX0DER"],
            report_options=report_options or {},
            window=(None, None),
            queue_seconds=0.0,
            processing_seconds=0.0,
            script=None,
            created=created,
        )
        report.outcome = status
        with self.lock:
            self._account.add(report)
        return report.report_id

    def document(self, report_id: str) -> bytes:
        """Return what a download of a report's document gets, which is gzipped unless a test says otherwise."""
        return self.storage.file(self.reports[report_id]).read_bytes()

    def add_account(self, **credentials: str) -> SandboxAccount:
        """Add an account with limits, tokens and reports of its own."""
        account = random_account(self._buckets(), **credentials)
        with self.lock:
            self.accounts.append(account)
        return account

    def expire_tokens(self) -> None:
        """End all access tokens given so far."""
        with self.lock:
            self.lwa.expire_all()

    def revoke(self) -> None:
        """Revoke the built-in account's grant: its refresh token is refused from now on."""
        self._account.revoked = True

    def note(self, operation: str, request: Request, body: bytes) -> Call:
        """Remember a request."""
        call = Call(
            operation=operation,
            method=request.method,
            path=request.url.path,
            query=request.url.query,
            body=body,
            headers=dict(request.headers),
            at=self.clock.now(),
        )
        with self.lock:
            self._calls.append(call)
        return call

    def take_faults(self, operation: str) -> list[Fault]:
        """Return the faults that hit this call."""
        with self.lock:
            taken: dict[str, Fault] = {}
            for fault in self._faults:
                if fault.take(operation, free=fault.slot not in taken):
                    taken[fault.slot] = fault
            return list(taken.values())

    def _buckets(self) -> Buckets:
        return Buckets(self._plan, self.clock)
