"""What OpenLineage, hook lineage and asset events learn of the transfers, in one real run of a DAG."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
import zipfile
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlsplit

import airflow
import pytest
from openlineage.client import event_v2
from openlineage.client.generated.output_statistics_output_dataset import OutputStatisticsOutputDatasetFacet

from airflow_provider_amzbiz.assets.reports import document_uri
from airflow_provider_amzbiz.feed.columns import TABLES
from airflow_provider_amzbiz.lineage import MovedDocument, Transfer
from tests.airflow_names import Asset
from tests.conftest import BUCKET, connect

AIRFLOW_3 = airflow.__version__.startswith("3")
INVOICE = "GET_AB_INVOICE_PDF"
LINES = "SANDBOX_ORDER_LINES"
FILES = {"a.pdf": b"%PDF-first", "b.pdf": b"%PDF-the second"}


def archive():
    """A ZIP, as invoices come in one."""
    body = io.BytesIO()
    with zipfile.ZipFile(body, "w") as file:
        for name, content in FILES.items():
            file.writestr(name, content)
    return body.getvalue()


def airflow_command(*arguments):
    """Run Airflow's command line, and return its output."""
    command = [str(Path(sys.executable).parent / "airflow"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ)
    return done.stdout + done.stderr


def asset_events():
    """The extras of all events of assets, by URI."""
    from airflow.utils.session import create_session

    if AIRFLOW_3:
        from airflow.models.asset import AssetEvent as Event
    else:
        from airflow.models.dataset import DatasetEvent as Event
    found = {}
    with create_session() as session:
        for event in session.query(Event).filter(Event.source_dag_id == "lineage"):
            found.setdefault(event.uri, []).append(event.extra)
    return found


@pytest.fixture(scope="module")
def ran(airflow_db, s3_server, tmp_path_factory):
    """The DAG ``lineage``, run in a process of its own, with OpenLineage writing to a file."""
    from airflow_provider_amzbiz.sandbox import Company, Sandbox

    folder = tmp_path_factory.mktemp("lineage")
    transport = {"type": "file", "log_file_path": str(folder / "events.json"), "append": True}
    sandbox = Sandbox(throttle=False, queue_seconds=0, processing_seconds=1)
    start = datetime.now(timezone.utc) - timedelta(days=60)
    company = Company(seed=3, orders=3, days=3, start=start, marketplaces=["ATVPDKIKX0DER"])
    of_company = Sandbox(throttle=False, queue_seconds=0, processing_seconds=1, company=company)
    with sandbox, of_company, pytest.MonkeyPatch.context() as env:
        connect(env, sandbox, marketplace_ids="ATVPDKIKX0DER")
        connect(env, of_company, conn_id="company", marketplace_ids="ATVPDKIKX0DER")
        env.setenv("AIRFLOW_CONN_AWS_DEFAULT", json.dumps(s3_server.airflow_connection))
        env.setenv("AIRFLOW__CORE__DAGS_FOLDER", str(Path(__file__).parent / "dags"))
        env.setenv("AIRFLOW__OPENLINEAGE__TRANSPORT", json.dumps(transport))
        env.setenv("AIRFLOW__OPENLINEAGE__NAMESPACE", "tests")
        env.setenv("AIRFLOW__OPENLINEAGE__EXECUTION_TIMEOUT", "60")
        # The most detailed log, to search it for secrets.
        policy = [{"scope": {}, "controls": {"include_full_task_info": True}}]
        env.setenv("AIRFLOW__OPENLINEAGE__EMISSION_POLICY", json.dumps(policy))
        env.setenv("HOOK_LINEAGE", str(folder / "hook.json"))
        # The DAG's first report.
        sandbox.script(document=archive(), processing_seconds=0)
        if not AIRFLOW_3:
            # "dags test" does not make its assets known to the database there.
            airflow_command("dags", "reserialize")
        log = airflow_command("dags", "test", "lineage")
        assert (folder / "hook.json").exists(), log
        text = (folder / "events.json").read_text()
        ids = list(sandbox.reports)
        yield SimpleNamespace(
            log=log,
            text=text,
            events=[json.loads(line) for line in text.splitlines()],
            hook=json.loads((folder / "hook.json").read_text()),
            assets=asset_events(),
            sandbox=sandbox,
            namespace=f"amazon-business://{urlsplit(sandbox.url).netloc}",
            company=company,
            of_company=of_company,
            company_namespace=f"amazon-business://{urlsplit(of_company.url).netloc}",
            archive=ids[0],
            lines=ids[1],
            batch=ids[2:5],
            client=s3_server.client(),
        )


def ended(ran, task, kind="COMPLETE"):
    (event,) = [
        each for each in ran.events if each["job"]["name"] == f"lineage.{task}" and each["eventType"] == kind
    ]
    return event


def named(datasets):
    return [(each["namespace"], each["name"]) for each in datasets]


def statistics(event):
    return [
        {name: value for name, value in each["outputFacets"]["outputStatistics"].items() if name[0] != "_"}
        for each in event["outputs"]
    ]


def stored(ran, prefix):
    """Size and SHA-256 of the documents that lie in S3, by key."""
    listed = ran.client.list_objects_v2(Bucket=BUCKET, Prefix=prefix).get("Contents", [])
    keys = [each["Key"] for each in listed if "/_manifests/" not in each["Key"]]
    bodies = {key: ran.client.get_object(Bucket=BUCKET, Key=key)["Body"].read() for key in keys}
    return {key: (len(body), hashlib.sha256(body).hexdigest()) for key, body in bodies.items()}


def test_one_document(ran):
    event = ended(ran, "move")
    key = f"lineage/lines/{ran.lines}.tsv"

    assert named(event["inputs"]) == [(ran.namespace, f"reports/{LINES}/{ran.lines}")]
    assert named(event["outputs"]) == [(f"s3://{BUCKET}", key)]
    body = ran.client.get_object(Bucket=BUCKET, Key=key)["Body"].read()
    assert statistics(event) == [{"size": len(body), "fileCount": 1, "rowCount": body.count(b"\n")}]
    assert body.count(b"\n") > 100


def test_an_archive_is_one_report_and_several_objects(ran):
    event = ended(ran, "archive")

    assert named(event["inputs"]) == [(ran.namespace, f"reports/{LINES}/{ran.archive}")]
    assert named(event["outputs"]) == [(f"s3://{BUCKET}", f"lineage/{ran.archive}/{name}") for name in FILES]
    assert statistics(event) == [{"size": len(body), "fileCount": 1} for body in FILES.values()]


def test_a_small_batch_names_each_report_and_each_object(ran):
    event = ended(ran, "batch")
    prefix = "lineage/batch/"

    assert sorted(named(event["inputs"])) == sorted(
        (ran.namespace, f"reports/{INVOICE}/{each}") for each in ran.batch
    )
    assert named(event["outputs"]) == [
        (f"s3://{BUCKET}", f"{prefix}{number}/{number}.pdf") for number in (1, 2, 3)
    ]
    assert sum(each["size"] for each in statistics(event)) == sum(size for size, _ in stored(ran, prefix).values())


def test_a_large_batch_is_named_by_its_type_and_its_folder(ran):
    event = ended(ran, "many")
    sizes = [size for size, _ in stored(ran, "lineage/many/").values()]

    assert len(sizes) == 21
    assert named(event["inputs"]) == [(ran.namespace, f"reports/{INVOICE}")]
    assert named(event["outputs"]) == [(f"s3://{BUCKET}", "lineage/many")]
    assert statistics(event) == [{"size": sum(sizes), "fileCount": 21}]


def test_the_events_fit_openlineages_own_classes(ran):
    finished = [each for each in ran.events if each["eventType"] == "COMPLETE"]
    assert len(finished) == 9
    for event in finished:
        rebuilt = event_v2.RunEvent(
            eventTime=event["eventTime"],
            producer=event["producer"],
            eventType=event_v2.RunState(event["eventType"]),
            run=event_v2.Run(runId=event["run"]["runId"]),
            job=event_v2.Job(namespace=event["job"]["namespace"], name=event["job"]["name"]),
            inputs=[event_v2.InputDataset(**each) for each in event["inputs"]],
            outputs=[event_v2.OutputDataset(**each) for each in event["outputs"]],
        )
        assert rebuilt.schemaURL == event["schemaURL"]
        for each in event["outputs"]:
            if "outputFacets" in each:
                facet = each["outputFacets"]["outputStatistics"]
                known = {name: value for name, value in facet.items() if name[0] != "_"}
                assert OutputStatisticsOutputDatasetFacet(**known)._schemaURL == facet["_schemaURL"]


def test_a_failed_transfer_reports_no_object_that_does_not_exist(ran):
    event = ended(ran, "broken", "FAIL")

    assert "no-such-bucket" not in {each["namespace"].removeprefix("s3://") for each in event["outputs"]}
    assert "s3://tests/lineage-broken" not in ran.assets


def test_readers_of_hook_lineage_learn_the_same(ran):
    assert f"{ran.namespace}/reports/{LINES}/{ran.lines}" in ran.hook["inputs"]
    assert f"s3://{BUCKET}/lineage/lines/{ran.lines}.tsv" in ran.hook["outputs"]


def test_the_event_of_an_asset_carries_report_document_and_checksum(ran):
    key = f"lineage/lines/{ran.lines}.tsv"
    size, sha256 = stored(ran, key)[key]

    (extra,) = ran.assets[f"s3://{BUCKET}/lineage-lines"]

    expected = {
        "report_type": LINES,
        "report_id": ran.lines,
        "report_document_id": ran.sandbox.reports[ran.lines].document_id,
        "uri": f"s3://{BUCKET}/{key}",
        "bytes": size,
        "sha256": sha256,
    }
    assert extra == expected
    # The same by way of an alias, for the object itself.
    assert ran.assets[f"s3://{BUCKET}/{key}"] == [expected]


def test_the_event_of_an_archive_lists_its_files(ran):
    (extra,) = ran.assets[f"s3://{BUCKET}/lineage-archives"]

    assert (extra["report_id"], extra["bytes"], extra["object_count"]) == (
        ran.archive,
        sum(map(len, FILES.values())),
        len(FILES),
    )
    assert extra["uri"] == f"s3://{BUCKET}/lineage/{ran.archive}"
    assert [(each["uri"], each["sha256"]) for each in extra["objects"]] == [
        (f"s3://{BUCKET}/lineage/{ran.archive}/{name}", hashlib.sha256(body).hexdigest())
        for name, body in FILES.items()
    ]
    for name, body in FILES.items():
        (extra,) = ran.assets[f"s3://{BUCKET}/lineage/{ran.archive}/{name}"]
        assert (extra["report_id"], extra["bytes"]) == (ran.archive, len(body))


def test_the_event_of_a_batch_is_its_summary_and_its_objects(ran):
    (extra,) = ran.assets[f"s3://{BUCKET}/lineage-batch"]

    assert {name: extra[name] for name in ("requested", "landed", "failed", "skipped", "object_count")} == {
        "requested": 3,
        "landed": 3,
        "failed": 0,
        "skipped": 0,
        "object_count": 3,
    }
    assert {each["report_id"] for each in extra["objects"]} == set(ran.batch)
    manifest = extra["manifest"].removeprefix(f"s3://{BUCKET}/")
    items = json.loads(ran.client.get_object(Bucket=BUCKET, Key=manifest)["Body"].read())["items"]
    assert {each["sha256"] for each in extra["objects"]} == {item["sha256"] for item in items}
    assert len([uri for uri in ran.assets if uri.startswith(f"s3://{BUCKET}/lineage/batch/")]) == 3


def test_the_event_of_a_large_batch_stays_small(ran):
    (extra,) = ran.assets[f"s3://{BUCKET}/lineage-many"]

    assert extra["object_count"] == extra["landed"] == 21
    assert len(extra["objects"]) == 20
    (extra,) = ran.assets[f"s3://{BUCKET}/lineage/many"]
    assert extra["object_count"] == 21
    assert "objects" not in extra


def test_the_feed_names_the_transactions_its_reports_its_documents_and_its_tables(ran):
    event = ended(ran, "feed")
    reports = [(ran.company_namespace, f"reports/{INVOICE}/{identity}") for identity in ran.of_company.reports]

    assert 0 < len(reports) <= 20
    assert sorted(named(event["inputs"])) == sorted([*reports, (ran.company_namespace, "transactions")])
    tables = [(f"s3://{BUCKET}", f"lineage-tables/{name}") for name in TABLES]
    documents = [(f"s3://{BUCKET}", key) for key in stored(ran, "lineage/feed/")]
    assert sorted(named(event["outputs"])) == sorted([*documents, *tables])


def test_the_event_of_the_feed_is_its_result(ran):
    (extra,) = ran.assets[f"s3://{BUCKET}/lineage-feed"]

    assert extra["requested"] == extra["landed"] == len(ran.of_company.reports)
    assert (extra["failed"], extra["skipped"], extra["already_delivered"]) == (0, 0, 0)
    assert {"manifest", "open_items", "bytes", "uri", "object_count", "objects"} <= set(extra)
    for name in TABLES:
        assert extra[f"table_{name}"].startswith(f"s3://{BUCKET}/lineage-tables/{name}/")


def test_a_table_of_transactions_names_what_it_is_made_of(ran):
    event = ended(ran, "transactions")
    ((key, (size, _)),) = stored(ran, "lineage-transactions/").items()
    rows = sum(len(each.lines) for each in ran.company.transactions)

    assert named(event["inputs"]) == [(ran.company_namespace, "transactions")]
    assert named(event["outputs"]) == [(f"s3://{BUCKET}", key)]
    assert statistics(event) == [{"rowCount": rows, "size": size, "fileCount": 1}]
    (extra,) = ran.assets[f"s3://{BUCKET}/lineage-transactions"]
    assert (extra["uri"], extra["rows"], extra["bytes"]) == (f"s3://{BUCKET}/{key}", rows, size)
    assert extra["transactions"] == len(ran.company.transactions)
    assert {"feed_start", "feed_end"} <= set(extra)
    # The same by way of an alias, for the object itself.
    assert ran.assets[f"s3://{BUCKET}/{key}"] == [extra]


def test_nothing_shows_a_secret(ran):
    told = ran.text + json.dumps(ran.hook) + json.dumps(ran.assets)
    connection, company = ran.sandbox.connection, ran.of_company.connection
    secrets = [
        connection["password"],
        connection["extra"]["refresh_token"],
        company["password"],
        company["extra"]["refresh_token"],
        "Atza|",
        "Atzr|",
        "X-Amz-",
        "Signature=",
    ]

    assert [each for each in secrets if each in told] == []


@pytest.mark.main_path
def test_a_document_without_a_report_has_a_name_too():
    moved = [MovedDocument(None, None, "amzn1.tortuga.3/x", [{"uri": "s3://b/k", "bytes": 1, "sha256": None}])]

    assert Transfer("host", moved).sources == [document_uri("host", "amzn1.tortuga.3/x")]
    assert document_uri("host", "amzn1.tortuga.3/x") == "amazon-business://host/documents/amzn1.tortuga.3%2Fx"


@pytest.mark.main_path
def test_a_key_that_is_no_plain_uri_stays_one_asset():
    moved = [MovedDocument(LINES, "1", "d", [{"uri": "s3://b/報告 #1?.tsv", "bytes": 1, "sha256": None}])]

    transfer = Transfer("host", moved)

    (target,) = transfer.targets
    assert Asset(uri=target.uri).uri == "s3://b/%E5%A0%B1%E5%91%8A %231%3F.tsv"
    assert transfer.to_openlineage().outputs[0].name == "報告 #1?.tsv"


class OneEvent:
    """The events of a task's outlets; no dict, because Airflow 3.1 cannot hash an asset."""

    def __init__(self):
        self.extra = {}

    def __getitem__(self, outlet):
        return self


@pytest.mark.main_path
@pytest.mark.parametrize("separator", ["/", ":"])
def test_an_access_point_is_the_bucket(separator):
    arn = f"arn:aws:s3:us-west-2:123456789012:accesspoint{separator}invoices"
    objects = [{"uri": f"s3://{arn}/2026/{each}.pdf", "bytes": 1, "sha256": None} for each in range(30)]

    one = Transfer("na.business-api.amazon.com", [MovedDocument(INVOICE, "1", "d", objects[:1])])
    many = Transfer("na.business-api.amazon.com", [MovedDocument(INVOICE, "1", "d", objects)])

    assert [(each.bucket, each.key) for each in one.targets] == [(arn, "2026/0.pdf")]
    assert [(each.bucket, each.key) for each in many.targets] == [(arn, "2026")]
    assert [(each.namespace, each.name) for each in one.to_openlineage().outputs] == [
        (f"s3://{arn}", "2026/0.pdf")
    ]
    assert Asset(uri=one.targets[0].uri).uri == f"s3://{arn}/2026/0.pdf"


def test_a_batch_that_stored_nothing_reports_that():
    event = OneEvent()

    Transfer("host", [], {"manifest": "s3://b/m.json", "landed": 0}).to_outlets(
        [Asset(uri="s3://b/nothing")], {"outlet_events": event}
    )

    assert event.extra == {"manifest": "s3://b/m.json", "landed": 0, "objects": []}
