"""Keys and buckets: what is filled in, and what is refused because it is surely a mistake."""

from __future__ import annotations

import gzip
import re
from datetime import datetime, timezone

import pytest

from airflow_provider_amzbiz.exceptions import InvalidInputError
from airflow_provider_amzbiz.hooks.amazon_business import AmazonBusinessHook
from airflow_provider_amzbiz.sandbox import RawDocument
from airflow_provider_amzbiz.task_groups import report_to_s3
from airflow_provider_amzbiz.transfers.report_document_to_s3 import ReportDocumentToS3Operator
from tests.airflow_names import DAG, task, task_group
from tests.transfers.transferring import zipped

BUCKET = "tests"
ARN = "arn:aws:s3:us-west-2:123456789012:accesspoint/invoices"

MISTAKES = pytest.mark.parametrize(
    ("key", "message"),
    [
        ("/a/b", "neither begin nor end with a slash"),
        ("a/b/", "neither begin nor end with a slash"),
        ("a//b", "has the part ''"),
        ("a/None/b", "has the part 'None'"),
        ("a/None.pdf", r"has the part 'None.pdf'"),
        ("None", "has the part 'None'"),
        ("a/../b", r"has the part '\.\.'"),
        ("./b", r"has the part '\.'"),
        ("a/{{ b", "a part of a template is left|a template that was not rendered"),
        ("a/b }}", "a part of a template is left|a template that was not rendered"),
        ("a/{% if b", "a part of a template is left|a template that was not rendered"),
        ("a/b\n", "no control character"),
        ("ü" * 513, "1026 bytes of UTF-8; S3 allows at most 1024"),
        ("a/<Task(PythonOperator): b>", "f-string"),
        ("a/XComArg(<Task(PythonOperator): b>).map(<lambda>)", "f-string"),
        ("a/<airflow.sdk.definitions.Thing object at 0x7f00dead>", "f-string"),
    ],
)


def operator(**arguments):
    given = {"s3_bucket": BUCKET, "s3_key": "k", **arguments}
    return ReportDocumentToS3Operator(task_id="move", **{"report_id": "1", **given})


@MISTAKES
def test_a_mistake_in_a_key_shows_at_parsing(key, message):
    with pytest.raises(InvalidInputError, match=f"(?s)s3_key is .*({message})"):
        operator(s3_key=key)


@MISTAKES
def test_a_mistake_in_a_uri_shows_at_parsing(key, message):
    uri = f"s3://{BUCKET}/{key}"
    said = re.escape(f"The key in s3_uri {uri!r} is {key!r}")
    with pytest.raises(InvalidInputError, match=f"{said}.*({message})"):
        operator(s3_bucket=None, s3_key=None, s3_uri=uri)


def test_a_mistake_in_the_bucket_of_a_uri_names_both():
    with pytest.raises(InvalidInputError, match="The bucket in s3_uri 's3://a b/key' is 'a b', but must be"):
        operator(s3_bucket=None, s3_key=None, s3_uri="s3://a b/key")


@MISTAKES
def test_what_a_template_renders_is_refused_before_any_call(sandbox, s3, key, message):
    task = operator(s3_key="{{ params.key }}")
    task.s3_key = key
    with pytest.raises(InvalidInputError, match=message):
        task.execute({})
    assert sandbox.calls == []


@pytest.mark.parametrize(
    "key",
    [
        "{{ ds }}/a",
        "a/{{ ds }}",
        "a/{{ x }}{{ y }}/b",
        "{% if x %}a{% endif %}/b/{report_id}",
        "a/{{\n ds }}/b",
        "a b/ü(1)/None-such/Nonesuch.pdf",
        "a?b#c%2F",
        "a/b{c-d}",
        "é" * 512,
    ],
)
def test_a_key_that_may_be_right_is_accepted(key):
    assert operator(s3_key=key).s3_key == key


@pytest.mark.parametrize(
    "bucket", ["None", "a/b", "s3://a", "{bucket}", "a b", "arn:aws:s3:::a", "arn:aws:iam::123456789012:role/x"]
)
def test_a_mistake_in_a_bucket(sandbox, s3, bucket):
    with pytest.raises(InvalidInputError, match="s3_bucket is"):
        operator(s3_bucket=bucket)
    task = operator(s3_bucket="{{ params.bucket }}")
    task.s3_bucket = bucket
    with pytest.raises(InvalidInputError, match="s3_bucket is"):
        task.execute({})
    assert sandbox.calls == []


@pytest.mark.parametrize("bucket", ["my-bucket", "My_Bucket", "tenant:bucket", "name-abc123-s3alias", ARN])
def test_a_bucket_that_may_be_right_is_accepted(bucket):
    assert operator(s3_bucket=bucket)._target() == (bucket, "k")


@pytest.mark.parametrize("field", ["s3_key", "s3_bucket", "s3_uri"])
def test_an_f_string_with_a_mapped_argument_shows_at_parsing(field):
    given = {"s3_bucket": BUCKET, "s3_key": "k"} if field != "s3_uri" else {"s3_bucket": None, "s3_key": None}
    texts = {"s3_key": "a/%s.tsv", "s3_bucket": "b-%s", "s3_uri": "s3://b/%s.tsv"}

    def build():
        @task
        def ids():
            return ["1", "2"]

        @task_group
        def each(report_id):
            operator(report_id=report_id, **{**given, field: texts[field] % report_id})

        each.expand(report_id=ids())

    with (
        DAG("f_string", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=timezone.utc)),
        pytest.raises(InvalidInputError, match=f"{field} .*is .*f-string"),
    ):
        build()


@pytest.mark.parametrize(
    ("arguments", "refused"),
    [
        ({"s3_key": "invoices/1.pdf"}, True),
        ({"s3_bucket": None, "s3_key": None, "s3_uri": "s3://tests/invoices/1.pdf"}, True),
        ({"s3_key": "invoices/1.pdf", "aws_conn_id": None}, True),
        ({"s3_key": "invoices/{report_id}.pdf"}, False),
        ({"s3_key": "invoices/{{ ti.map_index }}.pdf"}, False),
        ({"s3_key": "invoices/1.pdf", "s3_bucket": "{{ params.bucket }}"}, False),
    ],
)
def test_one_key_for_all_tasks_of_a_mapped_group_shows_at_parsing(arguments, refused):
    @task_group
    def each(report_id):
        operator(report_id=report_id, **arguments)

    with DAG("one_key", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=timezone.utc)):
        if refused:
            with pytest.raises(InvalidInputError, match="s3_key is the same for all tasks"):
                each.expand(report_id=["1", "2"])
        else:
            each.expand(report_id=["1", "2"])


def test_a_mapped_key_is_accepted():
    @task_group
    def each(report_id, key):
        operator(report_id=report_id, s3_key=key)

    with DAG("mapped_key", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=timezone.utc)):
        each.expand_kwargs([{"report_id": "1", "key": "a"}, {"report_id": "2", "key": "b"}])


@pytest.fixture
def report(sandbox):
    def create(body=b"text"):
        sandbox.script(document=RawDocument(gzip.compress(body), "GZIP"))
        return AmazonBusinessHook().create_report("SANDBOX_ORDER_LINES", ["ATVPDKIKX0DER"])

    return create


class TestKeyValues:
    @pytest.mark.parametrize("as_json", [False, True])
    def test_fill_the_key_in(self, report, s3, as_json):
        values = {"invoiceId": "2026-77", "year": 2026, "unused": "a/b"}
        given = '{"invoiceId": "2026-77", "year": 2026}' if as_json else values
        (stored,) = operator(
            report_id=report(), s3_key="keys/{year}/{invoiceId}-{report_id}.txt", key_values=given
        ).execute({})
        assert stored["uri"].startswith(f"s3://{BUCKET}/keys/2026/2026-77-")

    @pytest.mark.parametrize("value", ["", "  ", "a/b", "..", ".", "None", "/"])
    def test_that_would_change_the_folders_are_refused_before_any_call(self, sandbox, s3, value):
        task = operator(s3_key="keys/{invoiceId}/{name}", key_values={"invoiceId": value})
        with pytest.raises(InvalidInputError, match=r"\{invoiceId\} in the key|key_values\['invoiceId'\] is"):
            task.execute({})
        assert sandbox.calls == []

    def test_that_make_the_key_too_long_are_refused_before_any_call(self, sandbox, s3):
        task = operator(s3_key="keys/{invoiceId}", key_values={"invoiceId": "x" * 1020})
        with pytest.raises(InvalidInputError, match="1025 bytes"):
            task.execute({})
        assert sandbox.calls == []

    @pytest.mark.parametrize("values", [None, {}, {"other": "1"}])
    def test_that_are_missing_show_at_parsing(self, values):
        with pytest.raises(InvalidInputError, match=r"placeholder \{invoiceId\}"):
            operator(s3_key="{invoiceId}", key_values=values)

    def test_that_come_from_a_template_may_have_any_name(self, sandbox, s3):
        task = operator(s3_key="{invoiceId}", key_values="{{ params.values }}")
        task.key_values = '{"other": "1"}'
        with pytest.raises(InvalidInputError, match=r"placeholder \{invoiceId\}"):
            task.execute({})
        assert sandbox.calls == []

    @pytest.mark.parametrize(
        ("values", "message"),
        [
            ("no JSON", "key_values is 'no JSON'"),
            (["a"], r"key_values is \['a'\]"),
            ({"a": None}, r"key_values\['a'\] is None"),
            ({"a": ["b"]}, r"key_values\['a'\] is \['b'\]"),
            ({"a-b": "c"}, "key_values has the name 'a-b'"),
            ({"a": "MappedArgument(_input=x)"}, r"key_values\['a'\] is 'MappedArgument.* an f-string"),
            ({"a": "<Task(PythonOperator): x>"}, r"key_values\['a'\] is '<Task.* an f-string"),
            ({"a": "b\nc"}, r"key_values\['a'\] is 'b\\nc', but must have no control character"),
            ({"a": "None.pdf"}, r"key_values\['a'\] is 'None.pdf', but must not be 'None'"),
            ({"name": "c"}, "key_values has 'name'"),
            ({"report_id": "c"}, "key_values has 'report_id'"),
        ],
    )
    def test_of_another_kind_are_refused_before_any_call(self, sandbox, s3, values, message):
        task = operator(s3_key="k", key_values="{{ params.values }}")
        task.key_values = values
        with pytest.raises(InvalidInputError, match=message):
            task.execute({})
        assert sandbox.calls == []

    def test_are_the_options_of_a_report_in_the_task_group(self):
        with DAG("options", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=timezone.utc)) as dag:
            report_to_s3(
                report_type="GET_AB_INVOICE_PDF",
                report_options={"invoiceId": "1"},
                s3_bucket=BUCKET,
                s3_key="invoices/{invoiceId}.pdf",
            )
        assert dag.get_task("report_to_s3.move").key_values == {"invoiceId": "1"}

    def test_that_no_option_gives_show_at_parsing_of_the_task_group(self):
        with (
            DAG("options", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=timezone.utc)),
            pytest.raises(InvalidInputError, match=r"placeholder \{invoiceId\}"),
        ):
            report_to_s3(report_type="GET_AB_INVOICE_PDF", s3_bucket=BUCKET, s3_key="{invoiceId}.pdf")


def test_a_name_in_a_zip_may_have_folders(report, s3):
    body = zipped(a__b=b"1", None__x=b"2")
    stored = operator(report_id=report(body), s3_key="names/{report_id}/{name}").execute({})
    assert [each["uri"].split("/", 5)[5] for each in stored] == ["a/b", "None/x"]


def test_a_name_in_a_zip_that_makes_the_key_too_long_leaves_nothing(report, s3):
    body = zipped(a=b"1", **{"b" * 1020: b"2"})
    with pytest.raises(InvalidInputError, match="S3 allows at most 1024"):
        operator(report_id=report(body), s3_key="too-long/{name}").execute({})
    assert s3.list_objects_v2(Bucket=BUCKET, Prefix="too-long/").get("Contents", []) == []
