"""From an Airflow connection to a client of the Amazon Business Reports API."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from airflow.providers.common.compat.sdk import (
    AirflowException,
    AirflowNotFoundException,
    BaseHook,
    mask_secret,
)

from airflow_provider_amzbiz.client.config import is_loopback
from airflow_provider_amzbiz.client.errors import InvalidParameterError
from airflow_provider_amzbiz.client.parameters import required_text, seconds
from airflow_provider_amzbiz.exceptions import (
    AmazonBusinessError,
    ConnectionNotFoundError,
    about_report,
    translated_errors,
)
from airflow_provider_amzbiz.hooks.connection import (
    config_from_connection,
    marketplace_ids,
    named,
    read_extra,
    text,
)
from airflow_provider_amzbiz.hooks.connection_check import SECRET_DAYS, SECRET_WARNING_DAYS, age_of_secret, check
from airflow_provider_amzbiz.hooks.reconciliation import ReconciliationMixin

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Connection

    from airflow_provider_amzbiz.client.models import Report, ReportDocument
    from airflow_provider_amzbiz.client.reports import ReportsClient
    from airflow_provider_amzbiz.client.request import ReportRequest

# Seconds that the test of a connection may wait for a permit.
_TEST_SECONDS = 5.0
# What Airflow raises while it takes a connection apart that cannot be one.
_UNREADABLE = (ValueError, TypeError, KeyError, AttributeError, RecursionError)


class AmazonBusinessHook(ReconciliationMixin, BaseHook):
    """Calls the Reports API and the Reconciliation API with the credentials of an Airflow connection.

    All methods raise :class:`.AmazonBusinessError`; see :mod:`airflow_provider_amzbiz.exceptions` for its
    kinds and which of them a retry can mend.

    :param amazon_business_conn_id: the connection, of type ``amazon_business``.
    :param retry_for: seconds that one call may go on repeating itself after a fault (a broken connection, 500,
        502, 503, 504); 0 tries once.
    :param max_throttle_wait: seconds that one call may wait for its turn under the account's limits, after a 429
        too; 0 calls at once or raises :class:`.ThrottledError`.
    :param mask_access_tokens: whether Airflow is to mask the account's access tokens in logs. Say False in a
        process that lives for weeks, such as a triggerer: a token lasts an hour, and the masker, which forgets
        none, would grow for ever.
    :param stopped: asked at least once a second while a call waits (for a permit, or before a repetition), and
        before anything is sent; when it returns True, nothing more is sent and the call ends with an
        :class:`.AmazonBusinessError`. A request under way is finished first. By default never.
    :raises InvalidInputError: ``retry_for`` or ``max_throttle_wait`` is no number of seconds from 0 to ten years.
    """

    conn_name_attr = "amazon_business_conn_id"
    default_conn_name = "amazon_business_default"
    conn_type = "amazon_business"
    hook_name = "Amazon Business"

    def __init__(
        self,
        amazon_business_conn_id: str = default_conn_name,
        *,
        retry_for: float = 120.0,
        max_throttle_wait: float = 3600.0,
        mask_access_tokens: bool = True,
        stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        super().__init__()
        self.amazon_business_conn_id = amazon_business_conn_id
        with translated_errors():
            self.retry_for = seconds("retry_for", retry_for, zero=True)
            self.max_throttle_wait = seconds("max_throttle_wait", max_throttle_wait, zero=True)
        self.mask_access_tokens = mask_access_tokens
        self.stopped = stopped

    @cached_property
    def connection(self) -> Connection:
        """The Airflow connection."""
        with translated_errors():
            conn_id = required_text("amazon_business_conn_id", self.amazon_business_conn_id)
            try:
                return self.get_connection(conn_id)
            except AirflowNotFoundException:
                raise ConnectionNotFoundError(
                    f"There is no connection {conn_id!r}, or it cannot be read; add one of type "
                    f"{self.conn_type!r}, or set another amazon_business_conn_id. An environment variable "
                    f"AIRFLOW_CONN_{conn_id.upper()} must be exported and valid JSON or a "
                    "valid URI; outside a task, Airflow 3 does not look into its database"
                ) from None
            except Exception as error:  # noqa: BLE001
                unreadable = isinstance(error, _UNREADABLE) and not isinstance(error, OSError)
                kind = type(error).__name__
                if not unreadable and type(error) is not AirflowException:
                    # A database, a secrets backend or an API server that is out of reach for a while.
                    raise AmazonBusinessError(f"Connection {conn_id!r} cannot be read now ({kind})") from None
            # Not chained: Airflow's own text may hold a part of the connection, and so a secret.
            form = f"Connection {conn_id!r} is stored in a form that Airflow cannot read ({kind})"
            if unreadable:
                raise InvalidParameterError(
                    f"{form}, but must be valid JSON, a valid URI, or fields with a port that is a number"
                )
            raise AmazonBusinessError(f"{form}, or cannot be read now")

    @cached_property
    def client(self) -> ReportsClient:
        """The client of the connection's account; it shares its access token with all others of it."""
        from airflow_provider_amzbiz.client.reports import ReportsClient
        from airflow_provider_amzbiz.metrics import CallMetrics

        with translated_errors():
            account = config_from_connection(self.connection)
            self._warn_of_old_secret()
            return ReportsClient(
                account,
                retry_for=self.retry_for,
                max_throttle_wait=self.max_throttle_wait,
                on_token=mask_secret if self.mask_access_tokens else lambda _: None,
                listener=CallMetrics(),
                stopped=self.stopped,
            )

    def get_conn(self) -> ReportsClient:
        """Return the client."""
        return self.client

    @property
    def is_local(self) -> bool:
        """Whether the API is one on this machine; its documents may be there too, by http or https."""
        return is_loopback(self.api_host)

    @property
    def api_host(self) -> str:
        """The host of the API's endpoint, a name or an address, which may serve documents by https."""
        return urlsplit(self.client.config.endpoint).hostname or ""

    def create_report(
        self,
        report_type: str,
        marketplace_ids: str | Iterable[str] | None = None,
        *,
        data_start_time: datetime | str | None = None,
        data_end_time: datetime | str | None = None,
        report_options: Mapping[str, Any] | str | None = None,
    ) -> str:
        """Ask for a report and return its id (spec, createReport).

        :param report_type: such as ``GET_AB_INVOICE_PDF``.
        :param marketplace_ids: 1 to 25 ids, or one comma-separated text; by default the connection's. Those that
            Amazon lists for another region than the connection's are refused.
        :param data_start_time: start of the data, an aware datetime or an ISO 8601 text with an offset, at or
            before now.
        :param data_end_time: end of the data, the same way, not before ``data_start_time``.
        :param report_options: names to texts; numbers and booleans are made texts.
        :raises InvalidInputError: a parameter is not allowed (nothing was sent), or the API refused it.
        :raises ResponseLostError: a report may have been made, but its id did not arrive.
        """
        request = self.report_request(
            report_type,
            marketplace_ids,
            data_start_time=data_start_time,
            data_end_time=data_end_time,
            report_options=report_options,
        )
        return self.send(request)

    def report_request(
        self, report_type: str, marketplace_ids: str | Iterable[str] | None = None, **others: Any
    ) -> ReportRequest:
        """Check the parameters of :meth:`create_report`, and return them in the form of :meth:`send`.

        :raises InvalidInputError: a parameter is not allowed.
        """
        from airflow_provider_amzbiz.client.request import ReportRequest

        with about_report(report_type=report_type), translated_errors():
            return ReportRequest.of(
                report_type,
                self._default_marketplace_ids if marketplace_ids is None else marketplace_ids,
                endpoint=self.client.config.endpoint,
                **others,
            )

    def send(self, request: ReportRequest, *, on_sending: Callable[[], None] | None = None) -> str:
        """Ask for a report that :meth:`report_request` has checked; raises as :meth:`create_report`.

        :param on_sending: called right before each time the HTTP request goes out, after the wait for a permit.
        """
        with about_report(report_type=request.report_type), translated_errors():
            return self.client.send(request, on_sending=on_sending)

    def get_report(self, report_id: str) -> Report:
        """Return one report (spec, getReport).

        :raises ReportNotFoundError: the API does not know it; also for some seconds after it was created.
        """
        with about_report(report_id), translated_errors():
            return self.client.get_report(report_id)

    def get_reports(
        self,
        *,
        report_types: str | Iterable[str] | None = None,
        processing_statuses: str | Iterable[str] | None = None,
        marketplace_ids: str | Iterable[str] | None = None,
        page_size: int = 100,
        created_since: datetime | str | None = None,
        created_until: datetime | str | None = None,
        next_token: str | None = None,
    ) -> Iterator[Report]:
        """Yield all reports that match, newest first (spec, getReports). Each page is one scarce call.

        :param report_types: 1 to 10 types; required unless ``next_token`` is given.
        :param processing_statuses: only reports in these statuses.
        :param marketplace_ids: only reports of at least one of these 1 to 10 marketplaces.
        :param page_size: reports per call, 1 to 100.
        :param created_since: earliest creation time; by default 90 days ago.
        :param created_until: latest creation time; by default now.
        :param next_token: go on from an earlier answer; no filter may be given with it.
        """
        with translated_errors():
            pages = self.client.get_reports(
                report_types=report_types,
                processing_statuses=processing_statuses,
                marketplace_ids=marketplace_ids,
                page_size=page_size,
                created_since=created_since,
                created_until=created_until,
                next_token=next_token,
            )
        return _translated(pages)

    def cancel_report(self, report_id: str) -> bool:
        """Cancel a report (spec, cancelReport).

        :return: True when it is cancelled now; False when it was no longer IN_QUEUE.
        :raises ReportNotFoundError: the API does not know it.
        """
        with about_report(report_id), translated_errors():
            return self.client.cancel_report(report_id)

    def get_report_document(self, report_document_id: str) -> ReportDocument:
        """Return where a document lies (spec, getReportDocument): its URL works for five minutes."""
        with translated_errors():
            return self.client.get_report_document(report_document_id)

    def test_connection(self) -> tuple[bool, str]:
        """Try the connection: the token exchange, then one cheap call.

        :return: whether it works, and in words: the token, the host, the role, and how old the client secret is.
        """
        # Somebody waits for the answer in front of a form.
        hook = AmazonBusinessHook(self.amazon_business_conn_id, retry_for=0, max_throttle_wait=_TEST_SECONDS)
        try:
            return check(hook.client, hook._secret_age)
        except AmazonBusinessError as error:
            return False, str(error)

    @cached_property
    def _extra(self) -> dict[str, Any]:
        return read_extra(self.connection)

    @property
    def _default_marketplace_ids(self) -> list[str] | None:
        return marketplace_ids(self.connection, self._extra)

    @property
    def _secret_age(self) -> int | None:
        with named(self.connection):
            created_on = text(self._extra, "client_secret_created_on")
            return None if created_on is None else age_of_secret(created_on)

    def _warn_of_old_secret(self) -> None:
        """Warn in time that the client secret ends.

        :raises InvalidParameterError: ``client_secret_created_on`` is no ISO date, or lies in the future.
        """
        age = self._secret_age
        if age is not None and age >= SECRET_WARNING_DAYS:
            self.log.warning(
                "The client secret of connection %r is %s days old; Amazon ends it after %s. Rotate it in time",
                self.amazon_business_conn_id,
                age,
                SECRET_DAYS,
            )

    # Airflow 2.11 to 3.1 ask the hook for its form; 3.2 and newer read get_provider_info.

    @classmethod
    def get_connection_form_widgets(cls) -> dict[str, Any]:
        """Return the extra fields of the connection form, for Airflow before 3.2."""
        from flask_appbuilder.fieldwidgets import BS3PasswordFieldWidget, BS3TextFieldWidget
        from wtforms import PasswordField, StringField
        from wtforms.validators import Optional, any_of

        from airflow_provider_amzbiz.get_provider_info import CONNECTION_FIELDS

        def field(spec: dict[str, Any]) -> Any:
            about, schema = {"label": spec["label"], "description": spec["description"]}, spec["schema"]
            if schema.get("format") == "password":
                return PasswordField(widget=BS3PasswordFieldWidget(), **about)
            # One form holds the fields of all connection types there, and those of the others stay empty.
            validators = [Optional(), any_of(schema["enum"])] if "enum" in schema else [Optional()]
            return StringField(widget=BS3TextFieldWidget(), validators=validators, **about)

        return {name: field(spec) for name, spec in CONNECTION_FIELDS.items()}

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """Return labels and hidden fields of the connection form, for Airflow before 3.2."""
        from airflow_provider_amzbiz.get_provider_info import FIELD_BEHAVIOUR

        return {name.replace("-", "_"): value for name, value in FIELD_BEHAVIOUR.items()}


def _translated(reports: Iterator[Report]) -> Iterator[Report]:
    with translated_errors():
        yield from reports
