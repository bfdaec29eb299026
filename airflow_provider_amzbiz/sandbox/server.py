"""The sandbox as an object: start it, script it, ask it what happened."""

from __future__ import annotations

import socket
import tempfile
import threading
from collections.abc import Collection, Mapping
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import uvicorn

from airflow_provider_amzbiz.sandbox.app import Protocol, make_app
from airflow_provider_amzbiz.sandbox.clock import TIME_FORMATS, Clock
from airflow_provider_amzbiz.sandbox.company import Company
from airflow_provider_amzbiz.sandbox.documents import RawDocument
from airflow_provider_amzbiz.sandbox.journal import Call, Journal
from airflow_provider_amzbiz.sandbox.lwa import Lwa
from airflow_provider_amzbiz.sandbox.marketplaces import ANY, REGIONS, default_marketplace
from airflow_provider_amzbiz.sandbox.operations import Behaviour, Operations
from airflow_provider_amzbiz.sandbox.reconciliation import ReconciliationOperations, ReconciliationSettings
from airflow_provider_amzbiz.sandbox.responses import denied
from airflow_provider_amzbiz.sandbox.serving import Server
from airflow_provider_amzbiz.sandbox.state import (
    SandboxAccount,
    SandboxReport,
    Script,
    new_report,
    random_credentials,
)
from airflow_provider_amzbiz.sandbox.storage import Storage
from airflow_provider_amzbiz.sandbox.throttle import PLANS, Buckets

__all__ = ["Call", "Sandbox"]


class Sandbox(Journal):
    """The Amazon Business Reports API on 127.0.0.1, with Login with Amazon and a document store.

    Use it as a context manager, or call :meth:`start` and :meth:`stop`.

    :param port: port, or 0 for a free one.
    :param host: address to listen on.
    :param time_scale: sandbox seconds per real second, for report times, limits, tokens and URLs alike.
    :param region: the region whose host this is: ``na``, ``eu`` or ``fe``; or ``any``, for all hosts at one
        address, each request for marketplaces of one region. Other marketplaces are refused with 400.
    :param has_role: whether the built-in account's application has the role Business Purchase Reconciliation;
        without it, every operation returns 403.
    :param throttle: whether calls beyond the limits are answered 429.
    :param queue_seconds: sandbox seconds that a report is IN_QUEUE.
    :param processing_seconds: sandbox seconds that it is IN_PROGRESS after that.
    :param not_found_seconds: sandbox seconds for which getReport does not know a new report.
    :param listing_lag_seconds: sandbox seconds after which getReports shows a new report.
    :param document_lag_seconds: sandbox seconds for which getReportDocument does not know the document of a
        report that has just ended (400).
    :param document_days: sandbox days after a report's creation for which its document can be had (then 400).
    :param report_days: sandbox days after its creation for which a report is known (then 404).
    :param known_invoices: the invoice and order ids that there are; a request for another one ends CANCELLED.
        None means all. :meth:`issue` adds to it.
    :param repeat_seconds: sandbox seconds within which a request that is equal to an earlier one ends CANCELLED;
        0 never.
    :param shared_document_seconds: sandbox seconds within which equal requests share one document id, as has
        been seen for about an hour; 0 never.
    :param one_at_a_time: whether a report waits IN_QUEUE until the account's earlier ones have ended.
    :param time_format: of the times in responses: ``+00:00``, as recorded from production, or ``.sssZ``, as
        from Amazon's static sandbox.
    :param url_seconds: life of a document URL in sandbox seconds.
    :param token_seconds: life of an access token in sandbox seconds.
    :param plan: the limits: ``2026``, ``2025`` (before February 2026) or ``sandbox``.
    :param static: respond as Amazon's static sandboxes: their sixteen cases and nothing else.
    :param company: whose purchases the Reconciliation API shows, and whose invoices there are; by default none,
        and then every invoice exists as the other settings say.
    :param reconciliation: how the Reconciliation API behaves where sources contradict each other.
    :param reject_with_401: refuse tokens with 401, as the spec has it, instead of 403, as the gateway does.
    :param credentials: ``client_id``, ``client_secret``, ``refresh_token`` instead of made ones.
    :ivar url: base URL of the API, which is the Endpoint of a connection.
    :ivar token_url: URL of the token exchange.
    """

    def __init__(
        self,
        port: int = 0,
        *,
        host: str = "127.0.0.1",
        time_scale: float = 1.0,
        region: str = "na",
        has_role: bool = True,
        throttle: bool = True,
        queue_seconds: float = 5.0,
        processing_seconds: float = 5.0,
        not_found_seconds: float = 0.0,
        listing_lag_seconds: float = 0.0,
        document_lag_seconds: float = 0.0,
        document_days: float = 30,
        report_days: float = 90,
        known_invoices: Collection[str] | None = None,
        repeat_seconds: float = 0.0,
        shared_document_seconds: float = 0.0,
        one_at_a_time: bool = False,
        time_format: str = TIME_FORMATS[0],
        url_seconds: float = 300,
        token_seconds: float = 3600,
        plan: str = "2026",
        static: bool = False,
        company: Company | None = None,
        reconciliation: ReconciliationSettings | None = None,
        reject_with_401: bool = False,
        **credentials: str,
    ) -> None:
        for name, given, allowed in (
            ("plan", plan, sorted(PLANS)),
            ("region", region, REGIONS),
            ("time_format", time_format, TIME_FORMATS),
        ):
            if given not in allowed:
                raise ValueError(f"{name} is {given!r}, but must be one of {list(allowed)}")
        if time_scale <= 0:
            raise ValueError(f"time_scale is {time_scale!r}, but must be above 0")
        self.region = region
        super().__init__(Clock(time_scale, time_format))
        self.throttle = throttle
        self.static = static
        self._plan = "sandbox" if static else plan
        self._folder = tempfile.TemporaryDirectory(prefix="amzbiz-sandbox-")
        self.storage = Storage(self.clock, Path(self._folder.name), url_seconds)
        self.lwa = Lwa(self.clock, token_seconds, 401 if reject_with_401 else 403)
        behaviour = Behaviour(
            queue_seconds=queue_seconds,
            processing_seconds=processing_seconds,
            not_found_seconds=not_found_seconds,
            listing_lag_seconds=listing_lag_seconds,
            document_lag_seconds=document_lag_seconds,
            document_days=document_days,
            report_days=report_days,
            repeat_seconds=repeat_seconds,
            shared_document_seconds=shared_document_seconds,
            one_at_a_time=one_at_a_time,
            known_invoices=None if known_invoices is None else set(known_invoices),
        )
        self.operations = Operations(self.clock, self.storage, behaviour)
        self.accounts: list[SandboxAccount] = []
        self.reconciliation = ReconciliationOperations(self.clock, reconciliation or ReconciliationSettings())
        self.company = company
        self._account = self.add_account(has_role=has_role, company=company, **credentials)
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
        self._server = Server(config)
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
        extra = {
            "refresh_token": self.refresh_token,
            "token_url": self.token_url,
            "marketplace_ids": default_marketplace(self.region),
        }
        if self.region not in ("na", ANY):
            # Where a connection names no region, it is na.
            extra["region"] = self.region
        return {
            "conn_type": "amazon_business",
            "login": self.client_id,
            "password": self.client_secret,
            "host": self.url,
            "extra": extra,
        }

    @property
    def reports(self) -> dict[str, SandboxReport]:
        """All reports by id, of all accounts, in the order of their creation."""
        with self.lock:
            found = [report for account in self.accounts for report in account.reports.values()]
            return {report.report_id: report for report in sorted(found, key=lambda each: each.number)}

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
            marketplace_ids=marketplace_ids or [default_marketplace(self.region)],
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

    def add_account(
        self,
        *,
        region: str | None = None,
        has_role: bool = True,
        company: Company | None = None,
        **credentials: str,
    ) -> SandboxAccount:
        """Add an account with limits, tokens and reports of its own.

        :param region: of the consent, by default the sandbox's; one of another region is refused with 403.
        :param has_role: as the sandbox's.
        :param company: as the sandbox's; by default an account without purchases.
        :param credentials: as the sandbox's.
        """
        region = region or self.region
        if region not in REGIONS:
            raise ValueError(f"region is {region!r}, but must be one of {list(REGIONS)}")
        if company is not None:
            company.settle(self.clock.now(), region)
        given = {name: value for name, value in credentials.items() if value}
        account = SandboxAccount(
            {**random_credentials(), **given}, self._buckets(), region=region, has_role=has_role, company=company
        )
        with self.lock:
            self.accounts.append(account)
        return account

    def check_access(self, account: SandboxAccount) -> None:
        """Refuse an account that may not call the operations at this host.

        :raises ErrorResponse: its application lacks the role, or its consent is for another region.
        """
        if not account.has_role or self.region not in (ANY, account.region):
            raise denied("")

    def issue(self, *ids: str) -> None:
        """Let Amazon have more invoices or orders, from now on; see ``known_invoices``."""
        with self.lock:
            if self.operations.behaviour.known_invoices is not None:
                self.operations.behaviour.known_invoices.update(ids)

    def authorize(self) -> str:
        """Return a code as the built-in account's consent gives one, for the grant ``authorization_code``."""
        with self.lock:
            return self.lwa.authorize(self._account)

    def expire_tokens(self) -> None:
        """End all access tokens given so far."""
        with self.lock:
            self.lwa.expire_all()

    def revoke(self) -> None:
        """Revoke the built-in account's grant: its refresh token is refused from now on."""
        self._account.revoked = True

    def _buckets(self) -> Buckets:
        return Buckets(self._plan, self.clock)
