"""The sandbox as an object: start it, script it, check what happened."""

from __future__ import annotations

from collections.abc import Collection
from types import TracebackType
from typing import Any, Self

from airflow_provider_amzbiz.sandbox.app import make_app
from airflow_provider_amzbiz.sandbox.backend import Backend
from airflow_provider_amzbiz.sandbox.clock import TIME_FORMATS, Clock
from airflow_provider_amzbiz.sandbox.company import Company
from airflow_provider_amzbiz.sandbox.journal import Call
from airflow_provider_amzbiz.sandbox.lwa import Lwa
from airflow_provider_amzbiz.sandbox.marketplaces import ANY, default_marketplace
from airflow_provider_amzbiz.sandbox.operations import Behaviour
from airflow_provider_amzbiz.sandbox.reconciliation import ReconciliationSettings
from airflow_provider_amzbiz.sandbox.serving import ServerThread

__all__ = ["Call", "Sandbox"]


class Sandbox(Backend):
    """The Amazon Business Reports API on 127.0.0.1, with Login with Amazon and a document store.

    Use it as a context manager, or call :meth:`start` and :meth:`stop`.

    :param port: port, or 0 for a free one.
    :param host: address to listen on.
    :param time_scale: sandbox seconds per real second, for report times, limits, tokens and URLs alike.
    :param region: the region whose host this is: ``na``, ``eu`` or ``fe``; or ``any``, for all hosts at one
        address, each request for marketplaces of one region. Other marketplaces get 400.
    :param has_role: whether the built-in account's application has the role Business Purchase Reconciliation;
        without it, every operation returns 403.
    :param throttle: whether calls beyond the limits get 429.
    :param queue_seconds: sandbox seconds that a report is IN_QUEUE.
    :param processing_seconds: sandbox seconds that it is IN_PROGRESS after that.
    :param not_found_seconds: sandbox seconds for which getReport does not find a new report.
    :param listing_lag_seconds: sandbox seconds after which getReports shows a new report.
    :param document_lag_seconds: sandbox seconds for which getReportDocument does not find the document of a
        report that has just finished (400).
    :param document_days: sandbox days after a report's creation for which its document is kept (then 400).
    :param report_days: sandbox days after its creation for which a report is kept (then 404).
    :param known_invoices: the invoice and order ids that exist; a request for another one ends CANCELLED. None
        means all, or with a company its own; with both, the company's and these exist. :meth:`issue` adds to it.
    :param repeat_seconds: sandbox seconds within which a request that equals an earlier one ends CANCELLED; 0
        never.
    :param shared_document_seconds: sandbox seconds within which equal requests share one document id, which Amazon
        has been seen to do for about an hour; 0 never.
    :param one_at_a_time: whether a report waits IN_QUEUE until the account's earlier ones are finished.
    :param time_format: of the times in responses: ``+00:00``, as recorded from production, or ``.sssZ``, as
        from Amazon's static sandbox.
    :param url_seconds: life of a document URL in sandbox seconds.
    :param token_seconds: life of an access token in sandbox seconds.
    :param plan: the limits: ``2026``, ``2025`` (before February 2026) or ``sandbox``.
    :param static: respond as Amazon's static sandboxes: their sixteen cases and nothing else.
    :param company: whose purchases the Reconciliation API shows, and whose invoices exist; by default none, and
        then every invoice exists as far as the other settings allow.
    :param reconciliation: how the Reconciliation API behaves where sources contradict each other; by default as
        :class:`.ReconciliationSettings` has it.
    :param reject_with_401: reject tokens with 401, as the spec has it, instead of 403, as the gateway does.
    :param client_id: LWA client id of the built-in account; by default a random one.
    :param client_secret: LWA client secret of the built-in account; by default a random one.
    :param refresh_token: LWA refresh token of the built-in account; by default a random one.
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
        client_id: str = "",
        client_secret: str = "",
        refresh_token: str = "",
    ) -> None:
        clock = Clock(time_scale, time_format)
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
            reconciliation=reconciliation or ReconciliationSettings(),
        )
        if company is not None:
            # Before there is a folder to remove, because it may be of another region.
            company.settle(clock.now(), region)
        super().__init__(
            clock,
            behaviour,
            Lwa(clock, token_seconds, 401 if reject_with_401 else 403),
            region=region,
            plan=plan,
            throttle=throttle,
            static=static,
            url_seconds=url_seconds,
        )
        self.add_account(
            has_role=has_role,
            company=company,
            client_id=client_id,
            client_secret=client_secret,
            refresh_token=refresh_token,
        )
        self._server = ServerThread(make_app(self), host, port)
        self.url = self.storage.base_url = self._server.url
        self.token_url = f"{self.url}/auth/o2/token"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start serving; the port is open already, so a first request only waits."""
        self._server.start()

    def stop(self) -> None:
        """Stop serving and remove the documents. A stopped sandbox cannot be started again."""
        self._server.stop()
        self._folder.cleanup()

    @property
    def client_id(self) -> str:
        """LWA client id of the built-in account."""
        return self.accounts[0].client_id

    @property
    def client_secret(self) -> str:
        """LWA client secret of the built-in account."""
        return self.accounts[0].client_secret

    @property
    def refresh_token(self) -> str:
        """LWA refresh token of the built-in account."""
        return self.accounts[0].refresh_token

    @property
    def connection(self) -> dict[str, Any]:
        """The built-in account as an Airflow connection in its JSON form."""
        extra = {
            "refresh_token": self.refresh_token,
            "token_url": self.token_url,
            "marketplace_ids": default_marketplace(self.region),
        }
        if self.region not in ("na", ANY):
            # A connection without a region is one of na.
            extra["region"] = self.region
        return {
            "conn_type": "amazon_business",
            "login": self.client_id,
            "password": self.client_secret,
            "host": self.url,
            "extra": extra,
        }
