"""The sandbox keeps to the API's contract: schemathesis calls it with what that allows and what it forbids."""

from __future__ import annotations

from datetime import timezone
from pathlib import Path

import pytest
import requests
import schemathesis
import yaml
from hypothesis import Phase, given
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.generation.stateful import run_state_machine_as_test
from schemathesis.specs.openapi.checks import positive_data_acceptance, unsupported_method

from airflow_provider_amzbiz.sandbox import Sandbox
from airflow_provider_amzbiz.sandbox.invoices import INVOICE
from airflow_provider_amzbiz.sandbox.validation import ORDER_LINES, REPORT_TYPES, STATUSES
from tests.fuzzing import bounded

CONTRACT = Path(__file__).resolve().parent / "reports_api.openapi.yaml"
# Without shrinking, which would repeat requests to the server.
PHASES = (Phase.explicit, Phase.generate)
# The contract cannot say which report types, options and marketplaces there are, that nextToken comes alone, and
# that times must be past: what it allows may be rejected, and test_what_is_allowed_is_accepted has what
# must be accepted. And the gateway returns 403, not 405, for an unknown method.
NOT_BY_LETTER = [positive_data_acceptance, unsupported_method]
REPORTS = "/reports/2021-09-30/reports"
US = "ATVPDKIKX0DER"
MARKETPLACES = st.sampled_from([US, "A2EUQ1WTGCTBG2", "A1AM78C64UM0Y8"])


@pytest.fixture(scope="module")
def sandbox():
    with Sandbox(throttle=False, queue_seconds=0, processing_seconds=0) as running:
        yield running


def token_of(sandbox):
    account = {
        "grant_type": "refresh_token",
        "client_id": sandbox.client_id,
        "client_secret": sandbox.client_secret,
        "refresh_token": sandbox.refresh_token,
    }
    return requests.post(sandbox.token_url, data=account, timeout=10).json()["access_token"]


def headers_of(sandbox):
    return {"x-amz-access-token": token_of(sandbox), "User-Agent": "contract-tests/1 (Language=Python)"}


def contract_of(sandbox):
    schema = schemathesis.openapi.from_dict(yaml.safe_load(CONTRACT.read_text()))
    schema.config.update(base_url=sandbox.url)
    return schema


@pytest.fixture(scope="module")
def contract(sandbox):
    return contract_of(sandbox)


OPERATIONS = [
    (REPORTS, "GET"),
    (REPORTS, "POST"),
    (f"{REPORTS}/{{reportId}}", "GET"),
    (f"{REPORTS}/{{reportId}}", "DELETE"),
    ("/reports/2021-09-30/documents/{reportDocumentId}", "GET"),
]


@pytest.mark.parametrize("mode", list(GenerationMode))
@pytest.mark.parametrize(("path", "method"), OPERATIONS)
@bounded(40, phases=PHASES)
@given(data=st.data())
def test_every_operation_keeps_to_the_contract(contract, headers, path, method, mode, data):
    case = data.draw(contract[path][method].as_strategy(generation_mode=mode))
    case.call_and_validate(headers=headers, excluded_checks=NOT_BY_LETTER)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("queue_seconds", "way"),
    [
        (0, {("createReport", 202), ("getReport", 200), ("cancelReport", 400), ("getReportDocument", 200)}),
        (3600, {("createReport", 202), ("getReport", 200), ("cancelReport", 200)}),
    ],
)
def test_reports_go_their_ways_by_the_contract(sandbox, queue_seconds, way):
    headers, calls = headers_of(sandbox), len(sandbox.calls)
    known = [INVOICE, ORDER_LINES]

    class Ways(contract_of(sandbox).as_state_machine()):
        def setup(self):
            super().setup()
            sandbox.accounts[0].reports.clear()

        def before_call(self, case):
            if case.operation.method == "post" and case.meta.generation.mode is GenerationMode.POSITIVE:
                # Of a type that there is.
                case.body["reportType"] = known[len(sandbox.reports) % len(known)]
                case.body["marketplaceIds"] = [US]
                case.body["reportOptions"] = {"invoiceId": "1"} if case.body["reportType"] == INVOICE else {}
                sandbox.accounts[0].scripts.clear()
                sandbox.script(queue_seconds=queue_seconds, processing_seconds=0)

        def get_call_kwargs(self, case):
            return {"headers": headers}

        def validate_response(self, response, case, **arguments):
            case.validate_response(response, excluded_checks=NOT_BY_LETTER)

    run_state_machine_as_test(Ways, settings=bounded(30, phases=PHASES, stateful_step_count=12))

    seen = {(call.operation, call.status) for call in sandbox.calls[calls:]}
    # It came around, or it would have shown nothing.
    assert way <= seen


TIMES = st.datetimes(timezones=st.just(timezone.utc)).map(lambda each: each.replace(year=2020, day=1).isoformat())
NAMES = st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=14)
REQUESTS = st.fixed_dictionaries(
    {
        "reportType": st.sampled_from(sorted(REPORT_TYPES - {INVOICE})),
        "marketplaceIds": st.lists(MARKETPLACES, min_size=1, max_size=25),
    },
    optional={
        "dataStartTime": TIMES,
        "dataEndTime": TIMES.map(lambda each: each.replace("2020", "2021")),
        "reportOptions": st.dictionaries(
            NAMES.filter(lambda name: name not in ("rows", "bytes")), st.text(max_size=20)
        ),
    },
)
LISTINGS = st.fixed_dictionaries(
    {"reportTypes": st.lists(st.sampled_from(sorted(REPORT_TYPES)), min_size=1, max_size=10)},
    optional={
        "processingStatuses": st.lists(st.sampled_from(sorted(STATUSES)), min_size=1, max_size=5),
        "marketplaceIds": st.lists(MARKETPLACES, min_size=1, max_size=10),
        "pageSize": st.integers(1, 100),
        "createdSince": TIMES,
        "createdUntil": TIMES,
    },
)


@bounded()
@given(body=REQUESTS, listed=LISTINGS)
def test_what_is_allowed_is_accepted(sandbox, headers, body, listed):
    created = requests.post(f"{sandbox.url}{REPORTS}", json=body, headers=headers, timeout=10)
    assert created.status_code == 202, created.text
    query = {name: ",".join(each) if isinstance(each, list) else each for name, each in listed.items()}
    found = requests.get(f"{sandbox.url}{REPORTS}", params=query, headers=headers, timeout=10)
    assert found.status_code == 200, found.text


@pytest.fixture(scope="module")
def headers(sandbox):
    return headers_of(sandbox)


def test_throttling_responses_keep_to_the_contract():
    with Sandbox() as sandbox:
        contract = contract_of(sandbox)
        headers = headers_of(sandbox)
        operation = contract[f"{REPORTS}/{{reportId}}"]["GET"]
        statuses = []
        for _ in range(20):
            case = operation.Case(path_parameters={"reportId": "1"})
            response = case.call(headers=headers)
            case.validate_response(response)
            statuses.append(response.status_code)
            assert ("x-amzn-ratelimit-limit" in response.headers) == (response.status_code == 404)
    assert set(statuses) == {404, 429}
