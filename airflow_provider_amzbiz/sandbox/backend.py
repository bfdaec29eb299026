"""The sandbox without its web server: accounts, reports, documents, tokens, and the ways to script them."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from airflow_provider_amzbiz.sandbox.clock import Clock
from airflow_provider_amzbiz.sandbox.documents import RawDocument
from airflow_provider_amzbiz.sandbox.journal import Journal
from airflow_provider_amzbiz.sandbox.lwa import Lwa
from airflow_provider_amzbiz.sandbox.marketplaces import ANY, REGIONS, default_marketplace
from airflow_provider_amzbiz.sandbox.operations import Behaviour, Operations
from airflow_provider_amzbiz.sandbox.responses import denied
from airflow_provider_amzbiz.sandbox.state import (
    Course,
    SandboxAccount,
    SandboxReport,
    Script,
    new_report,
    random_credentials,
)
from airflow_provider_amzbiz.sandbox.storage import Storage
from airflow_provider_amzbiz.sandbox.throttle import PLANS, Buckets


class Backend(Journal):
    """What the sandbox's routes work on.

    :param url_seconds: life of a document URL in sandbox seconds.
    :ivar accounts: all accounts; the first one is the built-in one.
    """

    def __init__(
        self,
        clock: Clock,
        behaviour: Behaviour,
        lwa: Lwa,
        *,
        region: str,
        plan: str,
        throttle: bool,
        static: bool,
        url_seconds: float,
    ) -> None:
        for name, value, allowed in (("plan", plan, sorted(PLANS)), ("region", region, REGIONS)):
            if value not in allowed:
                raise ValueError(f"{name} is {value!r}, but must be one of {list(allowed)}")
        super().__init__(clock)
        self.lwa = lwa
        self.region = region
        self.throttle = throttle
        self.static = static
        self._plan = "sandbox" if static else plan
        self._folder = tempfile.TemporaryDirectory(prefix="amzbiz-sandbox-")
        self.storage = Storage(clock, Path(self._folder.name), url_seconds)
        self.operations = Operations(clock, self.storage, behaviour)
        self.accounts: list[SandboxAccount] = []

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
        """Choose the outcome of the built-in account's next reports.

        :param outcome: DONE, CANCELLED, FATAL, FATAL_WITH_DOCUMENT, DONE_WITHOUT_DOCUMENT, or any other string,
            which is then the report's status for ever.
        :param document: its content instead of that of its type; the compression of bytes is detected.
        :param queue_seconds: sandbox seconds IN_QUEUE; None for the sandbox's.
        :param processing_seconds: sandbox seconds IN_PROGRESS; None for the sandbox's.
        :param extra_fields: additional fields of the Report object.
        :param times: for how many reports.
        """
        if isinstance(document, bytes):
            document = RawDocument(document, "GZIP" if document.startswith(b"\x1f\x8b") else None)
        script = Script(outcome, document, queue_seconds, processing_seconds, dict(extra_fields or {}), times)
        with self.lock:
            self.accounts[0].scripts.append(script)

    def add_report(
        self,
        report_type: str = "SANDBOX_ORDER_LINES",
        *,
        marketplace_ids: list[str] | None = None,
        report_options: dict[str, str] | None = None,
        status: str = "DONE",
        created: datetime | None = None,
    ) -> str:
        """Add a report to the built-in account, as if somebody else had created it; return its id.

        :param status: its status; IN_QUEUE and IN_PROGRESS never change.
        :param created: its creation time, aware; by default now.
        """
        report = new_report(
            self.clock,
            Course(status, queue_seconds=0.0, processing_seconds=0.0),
            report_type=report_type,
            marketplace_ids=marketplace_ids or [default_marketplace(self.region)],
            report_options=report_options or {},
            created=created,
        )
        with self.lock:
            self.accounts[0].add(report)
        return report.report_id

    def document(self, report_id: str) -> bytes:
        """Return the bytes that a download of a report's document receives, gzipped unless scripted otherwise."""
        return self.storage.file(self.reports[report_id]).read_bytes()

    def add_account(
        self,
        *,
        region: str | None = None,
        has_role: bool = True,
        client_id: str = "",
        client_secret: str = "",
        refresh_token: str = "",
    ) -> SandboxAccount:
        """Add an account with limits, tokens and reports of its own.

        :param region: of the consent, by default the sandbox's; an account of another region gets 403.
        :param has_role: whether its application has the role Business Purchase Reconciliation; without it, every
            operation returns 403.
        :param client_id: LWA client id; by default a random one, as the other two.
        """
        region = region or self.region
        if region not in REGIONS:
            raise ValueError(f"region is {region!r}, but must be one of {list(REGIONS)}")
        credentials = {"client_id": client_id, "client_secret": client_secret, "refresh_token": refresh_token}
        given = {name: value for name, value in credentials.items() if value}
        account = SandboxAccount(
            {**random_credentials(), **given},
            Buckets(self._plan, self.clock),
            region=region,
            has_role=has_role,
        )
        with self.lock:
            self.accounts.append(account)
        return account

    def check_access(self, account: SandboxAccount) -> None:
        """Reject an account that may not call the operations at this host.

        :raises ErrorResponse: its application lacks the role, or its consent is for another region.
        """
        if not account.has_role or self.region not in (ANY, account.region):
            raise denied("")

    def issue(self, *ids: str) -> None:
        """Add invoices or orders that exist from now on; see ``known_invoices``."""
        with self.lock:
            if self.operations.behaviour.known_invoices is not None:
                self.operations.behaviour.known_invoices.update(ids)

    def authorize(self) -> str:
        """Return an authorization code of the built-in account, for the grant ``authorization_code``."""
        with self.lock:
            return self.lwa.authorize(self.accounts[0])

    def expire_tokens(self) -> None:
        """Expire all access tokens issued so far."""
        with self.lock:
            self.lwa.expire_all()

    def revoke(self) -> None:
        """Revoke the built-in account's grant: its refresh token is rejected from now on."""
        self.accounts[0].revoked = True
