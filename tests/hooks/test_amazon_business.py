"""From a connection to a client: every field, in every form a connection can have."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone

import airflow
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_amzbiz import exceptions
from airflow_provider_amzbiz.client.errors import InvalidParameterError
from airflow_provider_amzbiz.hooks.amazon_business import AmazonBusinessHook
from airflow_provider_amzbiz.hooks.connection import config_from_connection
from airflow_provider_amzbiz.sandbox import Fault
from tests.airflow_names import AirflowException, AirflowFailException, Connection
from tests.fuzzing import bounded

pytestmark = pytest.mark.main_path

SECRETS = {"login": "the-client", "password": "the-secret|/+", "extra": {"refresh_token": "Atzr|a/b+c=="}}


def define(monkeypatch, conn_id="amazon_business_default", **fields):
    extra = {**SECRETS["extra"], **fields.pop("extra", {})}
    connection = {"conn_type": "amazon_business", **SECRETS, **fields, "extra": extra}
    monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", json.dumps(connection))


@pytest.mark.skipif(airflow.__version__ == "3.1.0", reason="Outside tasks, it raises ImportError for any")
def test_unknown_connection():
    with pytest.raises(exceptions.ConnectionNotFoundError, match="no connection 'nowhere'") as caught:
        AmazonBusinessHook("nowhere").get_report("1")
    assert isinstance(caught.value, AirflowFailException)


@pytest.mark.parametrize(
    ("region", "host"),
    [
        (None, "https://na.business-api.amazon.com"),
        ("na", "https://na.business-api.amazon.com"),
        ("eu", "https://eu.business-api.amazon.com"),
        ("fe", "https://jp.business-api.amazon.com"),
    ],
)
def test_the_region_picks_the_host(monkeypatch, region, host):
    define(monkeypatch, extra={"region": region} if region else {})

    account = AmazonBusinessHook().client.config

    assert account.endpoint == host
    assert account.token_url == "https://api.amazon.com/auth/o2/token"
    assert (account.client_id, account.client_secret) == ("the-client", "the-secret|/+")
    assert account.refresh_token == "Atzr|a/b+c=="


@pytest.mark.parametrize(
    ("endpoint", "host", "local"),
    [
        ("http://127.0.0.1:8443", "127.0.0.1", True),
        ("https://127.0.0.1:8443", "127.0.0.1", True),
        ("https://[::1]:8443/v1", "::1", True),
        ("https://localhost", "localhost", True),
        ("https://192.168.1.5:8443", "192.168.1.5", False),
        ("https://sandbox.internal", "sandbox.internal", False),
    ],
)
def test_an_api_on_this_machine_is_local_by_http_and_https(monkeypatch, endpoint, host, local):
    define(monkeypatch, host=endpoint)
    hook = AmazonBusinessHook()
    assert (hook.api_host, hook.is_local) == (host, local)


def test_every_optional_field(monkeypatch):
    define(
        monkeypatch,
        host="https://proxy.example.com/",
        extra={
            "region": "eu",
            "token_url": "https://api.amazon.co.uk/auth/o2/token",
            "application_name": "Our Tool",
            "rate_limits": '{"createReport": [0.5, 3]}',
        },
    )

    account = AmazonBusinessHook().client.config

    assert account.endpoint == "https://proxy.example.com"
    assert account.token_url == "https://api.amazon.co.uk/auth/o2/token"
    assert account.application_name == "Our Tool"
    assert account.rate_limits["createReport"] == (0.5, 3)
    assert set(account.rate_limits) == {"createReport"}


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"login": ""}, "client_id is missing"),
        ({"password": ""}, "client_secret is missing"),
        ({"extra": {"refresh_token": ""}}, "refresh_token is missing"),
        ({"extra": {"refresh_token": 5}}, "refresh_token is a int, but must be a string"),
        ({"extra": {"region": "us"}}, r"region is 'us', but must be one of \['eu', 'fe', 'na'\]"),
        ({"host": "http://api.example.com"}, "endpoint is .* plain http"),
        ({"extra": {"token_url": "http://api.example.com"}}, "token_url is .* plain http"),
        ({"extra": {"rate_limits": '{"createReport": 5}'}}, "rate_limits is"),
        ({"extra": {"rate_limits": '{"createReport": [0, 5]}'}}, "rate_limits is"),
        ({"extra": {"rate_limits": '{"other": [1, 5]}'}}, "rate_limits is"),
        ({"extra": {"application_name": "x" * 600}}, "application_name is"),
        (
            {"extra": {"client_secret_created_on": "yesterday"}},
            "client_secret_created_on is a string of 9 characters, but must",
        ),
        ({"extra": {"client_secret_created_on": "2999-01-01"}}, "'2999-01-01', which is in the future"),
    ],
)
def test_a_field_that_is_not_allowed_is_named(monkeypatch, fields, named):
    define(monkeypatch, **fields)

    with pytest.raises(exceptions.InvalidInputError, match=named) as caught:
        AmazonBusinessHook().get_report("1")
    assert isinstance(caught.value, AirflowFailException)
    assert "the-secret" not in str(caught.value)


FIELDS = [
    "refresh_token",
    "region",
    "token_url",
    "application_name",
    "rate_limits",
    "client_secret_created_on",
]
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(), inner, max_size=2),
    max_leaves=4,
)


@bounded()
@given(st.dictionaries(st.sampled_from(FIELDS), ANY_JSON) | ANY_JSON)
def test_extras_of_any_shape_make_an_account_or_a_clear_error(extra):
    connection = Connection(
        conn_id="c", conn_type="amazon_business", login="i", password="s", extra=json.dumps(extra)
    )
    try:
        config_from_connection(connection)
    except InvalidParameterError as error:
        assert "'c'" in str(error)


@pytest.mark.parametrize(("age", "warned"), [(149, False), (150, True), (200, True)])
def test_an_old_client_secret_is_warned_of(monkeypatch, caplog, capsys, age, warned):
    created = (datetime.now(timezone.utc) - timedelta(days=age)).date().isoformat()
    define(monkeypatch, extra={"client_secret_created_on": created})

    assert AmazonBusinessHook().client

    # Airflow 3 logs by structlog to the standard output, Airflow 2 by logging.
    assert (f"{age} days old" in caplog.text + capsys.readouterr().out) is warned


def test_the_connections_marketplaces_are_the_default(sandbox):
    hook = AmazonBusinessHook()

    mine = hook.create_report("SANDBOX_ORDER_LINES", "A2EUQ1WTGCTBG2")
    default = hook.create_report("SANDBOX_ORDER_LINES")

    assert list(sandbox.reports[mine].marketplace_ids) == ["A2EUQ1WTGCTBG2"]
    assert list(sandbox.reports[default].marketplace_ids) == ["ATVPDKIKX0DER"]


def test_no_marketplace_anywhere(monkeypatch):
    define(monkeypatch)

    with pytest.raises(exceptions.InvalidInputError, match="marketplace_ids has 0 values"):
        AmazonBusinessHook().create_report("SANDBOX_ORDER_LINES")


def test_all_five_operations(sandbox):
    hook = AmazonBusinessHook()
    report_id = hook.create_report("SANDBOX_ORDER_LINES")
    assert hook.get_report(report_id).processing_status == "DONE"
    assert [report.report_id for report in hook.get_reports(report_types=["SANDBOX_ORDER_LINES"])] == [report_id]
    assert hook.cancel_report(report_id) is False
    assert hook.get_report_document(hook.get_report(report_id).report_document_id).url.startswith(sandbox.url)


@pytest.mark.parametrize(
    ("call", "kind", "permanent"),
    [
        (lambda hook: hook.get_report(""), exceptions.InvalidInputError, True),
        (lambda hook: hook.get_report("99999999999"), exceptions.ReportNotFoundError, True),
        (lambda hook: hook.get_report_document("x"), exceptions.InvalidInputError, True),
        (lambda hook: hook.create_report("NO_SUCH_TYPE"), exceptions.InvalidInputError, True),
        (
            lambda hook: list(hook.get_reports(report_types="NO_SUCH_TYPE")),
            exceptions.InvalidInputError,
            True,
        ),
    ],
)
def test_errors_are_airflows(sandbox, call, kind, permanent):
    with pytest.raises(kind) as caught:
        call(AmazonBusinessHook())
    assert isinstance(caught.value, exceptions.AmazonBusinessError)
    assert isinstance(caught.value, AirflowException)
    assert isinstance(caught.value, AirflowFailException) is permanent


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (403, exceptions.AccessDeniedError),
        (429, exceptions.ThrottledError),
        (503, exceptions.AmazonBusinessError),
    ],
)
def test_an_error_carries_the_details_of_the_response(sandbox, status, kind):
    sandbox.inject(Fault(operation="getReport", kind="status", status=status, body="json", times=None))

    with pytest.raises(kind) as caught:
        AmazonBusinessHook(retry_for=0, max_throttle_wait=0).get_report("1")
    error = caught.value
    assert type(error) is kind
    assert (error.status, error.operation) == (status, "getReport")
    assert error.request_id
    assert exceptions.error_from_dict(json.loads(json.dumps(error.to_dict()))).to_dict() == error.to_dict()


def test_a_missing_role_is_permanent(sandbox):
    sandbox.inject(Fault(operation="createReport", kind="status", status=403, body="json"))

    with pytest.raises(exceptions.AccessDeniedError, match="Business Purchase Reconciliation") as caught:
        AmazonBusinessHook().create_report("SANDBOX_ORDER_LINES")
    assert isinstance(caught.value, AirflowFailException)
    assert sandbox.count("createReport") == 1


def test_the_secrets_of_a_connection_and_its_access_token_are_masked_in_logs(sandbox):
    from tests.airflow_names import redact

    with pytest.raises(exceptions.ReportNotFoundError):
        AmazonBusinessHook().get_report("99999999999")
    token = sandbox.calls[-1].headers["x-amz-access-token"]
    line = redact(f"{token} {sandbox.refresh_token}")
    assert token not in line
    assert sandbox.refresh_token not in line
