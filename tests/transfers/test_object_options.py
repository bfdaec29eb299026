"""What a user may choose for the objects: checked when the DAG is parsed, and again before any call."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from airflow_provider_amzbiz.exceptions import InvalidInputError
from airflow_provider_amzbiz.transfers.invoices_to_s3 import InvoicesToS3Operator
from airflow_provider_amzbiz.transfers.report_document_to_s3 import ReportDocumentToS3Operator
from airflow_provider_amzbiz.transfers.reports_to_s3 import ReportsToS3Operator
from airflow_provider_amzbiz.transfers.transactions_to_s3 import TransactionsToS3Operator
from tests.airflow_names import DAG, BaseOperator
from tests.conftest import BUCKET
from tests.deferring import context, run
from tests.transfers.transferring import create

SECRET = "c2VjcmV0"
METADATA = '{"Metadata": {"team": "data"}}'


def document(key="k", **arguments):
    return ReportDocumentToS3Operator(
        task_id="task", **{"report_id": "1", "s3_bucket": BUCKET, "s3_key": key, **arguments}
    )


def reports(key="k", **arguments):
    requests = [{"report_type": "SANDBOX_ORDER_LINES", "s3_key": key}]
    return ReportsToS3Operator(
        task_id="task", requests=requests, s3_bucket=BUCKET, s3_key=key, poke_interval=0.1, **arguments
    )


def invoices(key="k", **arguments):
    given = {"s3_key": f"{key}/{{name}}", "ledger": f"s3://{BUCKET}/{key}-ledger/", **arguments}
    return InvoicesToS3Operator(task_id="task", s3_bucket=BUCKET, **given)


def transactions(key="k", **arguments):
    return TransactionsToS3Operator(task_id="task", s3_bucket=BUCKET, s3_key=f"{key}.jsonl", **arguments)


ALL = pytest.mark.parametrize("operator", [document, reports, invoices, transactions])
OF_DOCUMENTS = pytest.mark.parametrize("operator", [document, reports, invoices])


def interval():
    now = datetime.now(timezone.utc)
    times = {"data_interval_start": now - timedelta(days=1), "data_interval_end": now}
    return {**context(), **times, "outlet_events": {}}


class TestExtraArgs:
    WRONG = pytest.mark.parametrize(
        ("given", "message"),
        [
            ([SECRET], "extra_args is of type list, but must be a mapping"),
            (7, "extra_args is of type int"),
            (SECRET, "extra_args is a string without a JSON object, but must be a mapping"),
            ("None", "extra_args is a string without"),
            (f"{{'SSECustomerKey': '{SECRET}'}}", "extra_args is a string without"),
            (f'["{SECRET}"]', "extra_args is a string without"),
            ({"SSECustomerKey": SECRET, 7: SECRET}, "a name of type int, but names must be strings"),
            ({"SSECustomerKey": SECRET, "Body": b""}, "extra_args has 'Body', but may have none of"),
            (f'{{"SSECustomerKey": "{SECRET}", "Key": "other"}}', "extra_args has 'Key', but may have none of"),
        ],
    )

    @ALL
    @WRONG
    def test_are_checked_when_the_dag_is_parsed(self, operator, given, message):
        with pytest.raises(InvalidInputError, match=message) as caught:
            operator(extra_args=given)
        assert SECRET not in str(caught.value)

    @ALL
    @WRONG
    def test_are_checked_once_they_are_rendered_before_any_call(self, sandbox, s3, operator, given, message):
        task = operator("unchecked", extra_args="{{ params.extra_args }}")
        task.extra_args = given
        with pytest.raises(InvalidInputError, match=message) as caught:
            task.execute(interval())
        assert SECRET not in str(caught.value)
        assert sandbox.calls == []
        assert "Contents" not in s3.list_objects_v2(Bucket=BUCKET, Prefix="unchecked")

    @ALL
    def test_that_are_not_known_when_the_dag_is_parsed_are_left(self, operator):
        with DAG("dag", schedule=None):
            operator(extra_args=BaseOperator(task_id="first").output)
        operator(extra_args="{{ params.extra_args }}")
        operator(extra_args={"SSECustomerKey": "{{ var.value.key }}"})
        operator(extra_args=None)

    def test_may_be_a_json_object_as_a_template_renders_it(self, sandbox, s3, prefix):
        report_id = create(sandbox, b"a\n", algorithm=None)
        document(f"{prefix}document", report_id=report_id, extra_args=METADATA).execute({})
        transactions(f"{prefix}table", extra_args=METADATA).execute(interval())
        for deferrable in (True, False):
            key = f"{prefix}report-{deferrable}"
            given = {"deferrable": deferrable, "manifest_key": f"{key}.json", "extra_args": METADATA}
            run(lambda key=key, given=given: reports(key, **given), context())
        keys = [f"{prefix}{name}" for name in ("document", "table.jsonl", "report-True", "report-False")]
        found = [s3.head_object(Bucket=BUCKET, Key=key)["Metadata"] for key in keys]
        assert found == [{"team": "data"}] * 4


class TestContentType:
    WRONG = pytest.mark.parametrize("given", ["None", "text/csv\n", "text", "text/csv, text/plain", "ü/x", 5])

    @OF_DOCUMENTS
    @WRONG
    def test_is_checked_when_the_dag_is_parsed(self, operator, given):
        with pytest.raises(InvalidInputError, match="content_type is .*, but must be a media type, such as"):
            operator(content_type=given)

    @OF_DOCUMENTS
    @WRONG
    def test_is_checked_once_it_is_rendered_before_any_call(self, sandbox, s3, operator, given):
        task = operator("unchecked", content_type="{{ params.content_type }}")
        task.content_type = given
        with pytest.raises(InvalidInputError, match="content_type is"):
            task.execute(interval())
        assert sandbox.calls == []
        assert "Contents" not in s3.list_objects_v2(Bucket=BUCKET, Prefix="unchecked")

    @OF_DOCUMENTS
    @pytest.mark.parametrize(
        "given", [None, "", "text/csv", "text/csv; charset=UTF-8", "application/vnd.ms-excel", "text/{{ kind }}"]
    )
    def test_may_be_a_media_type_or_missing(self, operator, given):
        operator(content_type=given)


@pytest.mark.parametrize("given", ["False", 0, None])
@pytest.mark.parametrize(
    ("operator", "name"),
    [
        *((each, name) for each in (document, reports, invoices) for name in ("replace", "sha256")),
        (reports, "skip_if_empty"),
        (reports, "verify_delivered"),
        (invoices, "verify_delivered"),
        (invoices, "include_personal_data"),
        (transactions, "include_personal_data"),
    ],
)
def test_what_is_no_boolean_is_refused(operator, name, given):
    with pytest.raises(InvalidInputError, match=f"{name} is {given!r}, but must be True or False"):
        operator(**{name: given})
