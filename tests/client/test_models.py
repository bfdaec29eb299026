from __future__ import annotations

import json
from datetime import datetime, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_amzbiz.client.errors import UnavailableError
from airflow_provider_amzbiz.client.models import ProcessingStatus, Report, ReportDocument
from tests.fuzzing import bounded

FULL = {
    "reportId": "1",
    "reportType": "GET_AB_INVOICE_PDF",
    "processingStatus": "DONE",
    "createdTime": "2025-10-21T12:00:45+00:00",
    "marketplaceIds": ["ATVPDKIKX0DER"],
    "dataStartTime": "2025-10-20T00:00:00.677Z",
    "dataEndTime": "2025-10-21T00:00:00+02:00",
    "processingStartTime": "2025-10-21T12:00:50+00:00",
    "processingEndTime": "2025-10-21T12:00:55+00:00",
    "reportDocumentId": "amzn1.spdoc.1",
}
REQUIRED = ("reportId", "reportType", "processingStatus", "createdTime")
JSON = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


def test_every_field_of_a_report():
    report = Report.from_api(FULL)

    assert report.report_id == "1"
    assert report.processing_status == ProcessingStatus.DONE
    assert report.is_terminal
    assert report.created_time == datetime(2025, 10, 21, 12, 0, 45, tzinfo=timezone.utc)
    assert report.marketplace_ids == ("ATVPDKIKX0DER",)
    assert report.data_start_time.microsecond == 677_000
    assert report.data_end_time.utcoffset().total_seconds() == 7200
    assert report.processing_end_time > report.processing_start_time
    assert report.report_document_id == "amzn1.spdoc.1"
    assert report.extra == {}


def test_a_report_survives_xcom():
    report = Report.from_api({**FULL, "newField": {"a": [1]}})

    assert Report.from_dict(json.loads(json.dumps(report.to_dict()))) == report


def test_what_is_unknown_is_kept_as_it_came():
    report = Report.from_api({**FULL, "processingStatus": "ON_HOLD", "newField": {"a": [1]}})

    assert report.processing_status == "ON_HOLD"
    assert not report.is_terminal
    assert report.extra == {"newField": {"a": [1]}}


@pytest.mark.parametrize("name", REQUIRED)
def test_a_required_field_is_missing(name):
    with pytest.raises(UnavailableError, match=name):
        Report.from_api({key: value for key, value in FULL.items() if key != name})


def test_optional_fields_may_be_missing_or_null():
    bare = Report.from_api({name: FULL[name] for name in REQUIRED})

    assert bare == Report.from_api({**bare_response(), "reportDocumentId": None, "marketplaceIds": None})
    assert bare.report_document_id is None
    assert bare.marketplace_ids == ()


def bare_response():
    return {name: FULL[name] for name in REQUIRED}


@pytest.mark.parametrize("name", ["createdTime", "dataStartTime"])
def test_a_time_without_an_offset_is_utc(name):
    report = Report.from_api({**FULL, name: "2025-10-21T12:00:45"})

    assert report.to_dict()[{"createdTime": "created_time"}.get(name, "data_start_time")].endswith("+00:00")


@pytest.mark.parametrize("value", ["yesterday", "2025-13-01T00:00:00Z"])
def test_a_time_that_is_none(value):
    with pytest.raises(UnavailableError, match="createdTime.*ISO 8601"):
        Report.from_api({**FULL, "createdTime": value})


# Each as it comes in JSON, and why Airflow's database could not store it.
UNSTORABLE = [
    ("NaN", "a number that is not finite"),
    ("-Infinity", "a number that is not finite"),
    ("1e999", "a number that is not finite"),
    (r'"\ud800"', "not valid UTF-8"),
    (r'"a\u0000b"', "a NUL character"),
    (r'{"a\u0000": 1}', "a NUL character"),
    ("[" * 300 + "]" * 300, "nested more than 50 levels deep"),
]


@pytest.mark.parametrize(("value", "why"), UNSTORABLE)
@pytest.mark.parametrize("form", ["%s", "[1, %s]", '{"a": {"b": [%s]}}'])
def test_an_unknown_field_that_no_database_stores_is_a_transient_fault(value, why, form):
    response = json.loads('{"newField": %s}' % (form % value))

    with pytest.raises(UnavailableError, match=f"^A Report of the response .*{why}"):
        Report.from_api({**FULL, **response})


@pytest.mark.parametrize(("text", "why"), [("a\ud800", "not valid UTF-8"), ("a\0", "a NUL character")])
def test_a_known_field_that_no_database_stores_is_a_transient_fault(text, why):
    with pytest.raises(UnavailableError, match=f"^reportType of the response's Report .*{why}"):
        Report.from_api({**FULL, "reportType": text})
    with pytest.raises(UnavailableError, match=f"^marketplaceIds of the response's Report .*{why}"):
        Report.from_api({**FULL, "marketplaceIds": ["A", text]})


@pytest.mark.parametrize("name", ["new\ud800Field", "newField\0"])
def test_so_is_a_field_whose_name_no_database_stores(name):
    with pytest.raises(UnavailableError, match="^A Report of the response "):
        Report.from_api({**FULL, name: 1})


def test_unknown_fields_that_can_be_stored_are_kept_however_odd():
    deep = json.loads("[" * 50 + "]" * 50)
    odd = {"deep": deep, "signs": "\u20ac\U0001f4a5\n", "large": 10**400, "small": -1e-300}
    report = Report.from_api({**FULL, **odd})

    assert report.extra == odd

    assert Report.from_dict(json.loads(json.dumps(report.to_dict(), allow_nan=False))) == report


@bounded()
@given(st.dictionaries(st.sampled_from(sorted(FULL)) | st.text(), JSON))
def test_any_json_makes_a_report_or_one_kind_of_error(response):
    try:
        report = Report.from_api({**FULL, **response})
    except UnavailableError:
        return
    assert Report.from_dict(json.loads(json.dumps(report.to_dict()))) == report


@bounded()
@given(JSON)
def test_any_json_in_place_of_an_object(response):
    if isinstance(response, dict):
        return
    with pytest.raises(UnavailableError):
        Report.from_api(response)


def test_a_documents_url_is_not_shown():
    document = ReportDocument.from_api(
        {
            "reportDocumentId": "d",
            "url": "https://s3/x?X-Amz-Signature=abc",
            "compressionAlgorithm": "GZIP",
            "x": 1,
        }
    )

    assert document.url == "https://s3/x?X-Amz-Signature=abc"
    assert document.compression_algorithm == "GZIP"
    assert document.extra == {"x": 1}
    assert "Signature" not in repr(document) + str(document) + json.dumps(document.to_dict())
