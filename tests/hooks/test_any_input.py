"""Whatever a connection, a parameter or Login with Amazon holds: a value or an error of ours, without a secret."""

from __future__ import annotations

import json
import logging
import os
import sys
from datetime import datetime, timedelta, timezone
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_amzbiz.client import auth
from airflow_provider_amzbiz.exceptions import AmazonBusinessError
from airflow_provider_amzbiz.hooks.amazon_business import AmazonBusinessHook
from airflow_provider_amzbiz.operators.reports import CreateReportOperator
from airflow_provider_amzbiz.sensors.reports import ReportStatusSensor
from tests.conftest import _MASKERS
from tests.deferring import Store, context
from tests.fuzzing import bounded
from tests.scripted_api import GOOD_TOKEN, ScriptedApi

US = "ATVPDKIKX0DER"
LINES = "SANDBOX_ORDER_LINES"
# In every secret that is planted, and in nothing else: put together, because Hypothesis uses the strings it finds.
PLANTED = "-".join(["planted", "secret"])
SECRETS = st.sampled_from(
    [
        f"Atzr|{PLANTED}",
        f"amzn1.oa2-cs.v1.{PLANTED}",
        f"https://user:{PLANTED}@api.example.com",
        f"htps://user:{PLANTED}@api.example.com",
        f"https://user%3A{PLANTED}%40api.example.com",
        f"user:{PLANTED}@api.example.com",
        f"https://api.example.com?key={PLANTED}",
        f"{PLANTED} {PLANTED}",
        f"{PLANTED}|",
        f"{{{{ {PLANTED} }}}}",
        f"{PLANTED}\n\u2026",
    ]
)
ODD_TEXT = st.sampled_from(
    [
        "",
        " ",
        "\n",
        "None",
        "nan",
        "0",
        "-1",
        "1e400",
        "Infinity",
        "{{ x }}",
        "{% x %}",
        "\ud800",
        "\udcff",
        "\0",
        ".",
        "..",
        "/",
        "a/b",
        "\\",
        "[",
        "{",
        "[" * 3000,
        "x" * 5000,
        "\u2026",
        "\u00fc.example.com",
        "*",
    ]
)
TEXT = st.text(max_size=20) | ODD_TEXT
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | TEXT
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
HOSTS = st.sampled_from(
    [
        "https://[na",
        "na..x.com",
        "a" * 64 + ".com",
        "https://x:99999",
        "https://x:abc",
        "https://x:",
        "http://x.com",
        "http://127.0.0.1:1",
        "127.0.0.1",
        "::1",
        "[::1]",
        "https://[::1]:1",
        "https://",
        "://",
        "https:/x",
        "x@y",
        "https://na.business-api.amazon.com/%40",
        "https://x.com:0",
        "https://\u0660.com",
        "file:///etc/passwd",
    ]
)
LIMITS = st.dictionaries(
    st.sampled_from(["createReport", "getReport", "getReports", "other"]),
    st.lists(JSON, max_size=3) | JSON,
    max_size=2,
)
FIELDS = st.fixed_dictionaries(
    {},
    optional={
        "conn_type": JSON,
        "login": JSON | SECRETS,
        "password": JSON | SECRETS,
        "host": JSON | HOSTS | SECRETS,
        "schema": JSON | st.sampled_from(["http", "HTTPS", "ftp"]) | SECRETS,
        "port": JSON | st.sampled_from([0, 1, 443, "443 ", 65536, 10**400, True]) | SECRETS,
    },
)
EXTRAS = st.fixed_dictionaries(
    {},
    optional={
        "refresh_token": JSON | SECRETS,
        "region": JSON | st.sampled_from(["na", " EU\n", "xx"]) | SECRETS,
        "token_url": JSON | HOSTS | SECRETS,
        "marketplace_ids": JSON | st.lists(TEXT, max_size=30) | SECRETS,
        "client_secret_created_on": JSON | st.dates().map(str) | SECRETS,
        "application_name": JSON | SECRETS,
        "rate_limits": JSON | LIMITS | LIMITS.map(json.dumps) | SECRETS,
    },
)
MOMENTS = (
    st.datetimes(timezones=st.none() | st.sampled_from([timezone.utc, timezone(timedelta(hours=14))]))
    | st.datetimes().map(str)
    | st.sampled_from(
        [
            datetime.max.replace(tzinfo=timezone(timedelta(hours=-14))),
            datetime.min.replace(tzinfo=timezone(timedelta(hours=14))),
            "9999-12-31T23:59:59-14:00",
        ]
    )
)
OTHERS = (
    st.builds(object) | st.binary(max_size=5) | st.builds(Decimal, st.sampled_from(["5", "5.5", "NaN", "sNaN"]))
)
ANY = JSON | OTHERS | MOMENTS
OPTIONS = st.dictionaries(TEXT | SCALARS, ANY, max_size=3) | ANY
PARAMETERS = {
    "report_type": ANY | st.just(LINES),
    "marketplace_ids": ANY | st.lists(TEXT | st.just(US), max_size=30) | st.just(US),
    "data_start_time": ANY,
    "data_end_time": ANY,
    "report_options": OPTIONS,
}
TOKENS = st.tuples(
    st.sampled_from([200, 200, 200, 201, 204, 301, 400, 401, 403, 404, 429, 500, 503]),
    st.one_of(
        st.binary(max_size=50),
        JSON.map(lambda each: json.dumps(each).encode()),
        st.fixed_dictionaries(
            {},
            optional={
                "access_token": JSON | SECRETS | st.just("Atza|good"),
                "expires_in": JSON | st.sampled_from([10**400, -5, True, "3600"]),
                "error": JSON | st.sampled_from(["invalid_client", "invalid_grant", "slow_down"]),
                "error_description": JSON,
            },
        ).map(lambda each: json.dumps(each).encode()),
    ),
)


@pytest.fixture(scope="module")
def api():
    with ScriptedApi() as running:
        yield running


@pytest.fixture(autouse=True)
def _nothing_leaves_this_machine(monkeypatch):
    """Put every other host behind a proxy that rejects requests, and retry nothing."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost,::1")
    monkeypatch.setitem(AmazonBusinessHook.__init__.__kwdefaults__, "retry_for", 0.0)
    monkeypatch.setitem(AmazonBusinessHook.__init__.__kwdefaults__, "max_throttle_wait", 0.0)
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def define(api, fields=None, extra=None, token=GOOD_TOKEN):
    quick = {name: [500, 500] for name in ("createReport", "getReports", "getReport", "cancelReport")}
    extra = {"refresh_token": "Atzr|r", "token_url": api.token_url, "rate_limits": quick, **(extra or {})}
    connection = {"conn_type": "amazon_business", "login": "i", "password": "the-secret", "host": api.url}
    os.environ["AIRFLOW_CONN_ANY"] = json.dumps({**connection, **(fields or {}), "extra": extra})
    api.token = token
    api.requests.clear()
    auth._known.clear()
    for name in _MASKERS:
        if name in sys.modules:
            masker = sys.modules[name]._secrets_masker()
            masker.patterns, masker.replacer = set(), None


@pytest.fixture(autouse=True)
def _clean_environment():
    yield
    os.environ.pop("AIRFLOW_CONN_ANY", None)


def check(*calls):
    """Make calls; each gives a value, or an error of ours that shows no secret."""
    for call in calls:
        try:
            call()
        except AmazonBusinessError as error:
            shown = f"{error} {error!r} {error.to_dict()}"
            assert PLANTED not in shown
            shown.encode()


def all_calls(hook, report_id="1"):
    return (
        lambda: hook.get_report(report_id),
        lambda: hook.create_report(LINES),
        lambda: hook.cancel_report(report_id),
        lambda: hook.get_report_document(report_id),
        lambda: list(hook.get_reports(report_types=LINES)),
    )


def assert_a_test_in_words(works, message):
    assert isinstance(works, bool)
    assert isinstance(message, str)
    assert PLANTED not in message


def tasks(report_id="1", **create):
    create = {"report_type": LINES, "marketplace_ids": US, **create}
    return (
        lambda: ReportStatusSensor(
            task_id="s",
            report_id=report_id,
            amazon_business_conn_id="any",
            deferrable=False,
            poke_interval=0.01,
            timeout=0.02,
        ).execute(context()),
        lambda: CreateReportOperator(
            task_id="c", amazon_business_conn_id="any", deferrable=False, durable=False, **create
        ).execute(context(Store())),
    )


def test_what_is_good_reaches_the_server(api):
    define(api)
    hook = AmazonBusinessHook("any")
    assert hook.create_report(LINES, US) == hook.get_report("1").report_id == "1"
    assert [report.report_id for report in hook.get_reports(report_types=LINES)] == ["1"]
    assert [each() for each in tasks()][1] == "1"
    assert len(api.requests) > 5


@bounded(150)
@given(fields=FIELDS, extra=EXTRAS)
def test_any_connection(api, fields, extra):
    define(api, fields, extra)
    hook = AmazonBusinessHook("any")
    check(*all_calls(hook), *tasks())
    assert_a_test_in_words(*hook.test_connection())


@bounded(60)
@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=60) | SECRETS | HOSTS)
def test_any_string_for_a_connection(api, text):
    define(api)
    os.environ["AIRFLOW_CONN_ANY"] = text
    hook = AmazonBusinessHook("any")
    check(*all_calls(hook), *tasks())
    assert_a_test_in_words(*hook.test_connection())


@bounded(60)
@given(ANY)
def test_any_extra(api, extra):
    define(api)
    connection = json.loads(os.environ["AIRFLOW_CONN_ANY"])
    try:
        text = json.dumps({**connection, "extra": extra})
    except (TypeError, ValueError):
        return
    os.environ["AIRFLOW_CONN_ANY"] = text
    hook = AmazonBusinessHook("any")
    check(*all_calls(hook))
    assert_a_test_in_words(*hook.test_connection())


@bounded(150)
@given(given=st.fixed_dictionaries({}, optional=PARAMETERS), report_id=ANY)
def test_any_parameter_of_a_hook(api, given, report_id):
    define(api)
    hook = AmazonBusinessHook("any")
    request = {"report_type": LINES, "marketplace_ids": US, **given}
    check(*all_calls(hook, report_id), lambda: hook.create_report(**request))


@bounded(100)
@given(given=st.fixed_dictionaries({}, optional=PARAMETERS), report_id=ANY)
def test_any_parameter_of_a_task(api, given, report_id):
    define(api)
    check(*tasks(report_id, **given))


@bounded(100)
@given(types=ANY, statuses=ANY, marketplaces=ANY, size=ANY | st.integers(-1, 101), since=ANY, until=ANY, token=ANY)
def test_any_filter_of_a_listing(api, types, statuses, marketplaces, size, since, until, token):
    define(api)
    hook = AmazonBusinessHook("any")
    times = {"created_since": since, "created_until": until}
    check(
        lambda: list(hook.get_reports(report_types=types)),
        lambda: list(hook.get_reports(report_types=LINES, processing_statuses=statuses)),
        lambda: list(hook.get_reports(report_types=LINES, marketplace_ids=marketplaces)),
        lambda: list(hook.get_reports(report_types=LINES, page_size=size)),
        lambda: list(hook.get_reports(report_types=LINES, **times)),
        lambda: list(hook.get_reports(next_token=token)),
    )


@bounded(150)
@given(TOKENS)
def test_any_response_of_login_with_amazon(api, token):
    define(api, token=token)
    hook = AmazonBusinessHook("any")
    check(lambda: hook.get_report("1"), *tasks())
    assert_a_test_in_words(*hook.test_connection())
