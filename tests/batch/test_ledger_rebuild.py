"""A ledger that is rebuilt from the manifests of batches."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone

import pytest

from airflow_provider_amzbiz.batch.ledger import Ledger, LedgerError
from airflow_provider_amzbiz.batch.ledger_rebuild import rebuild
from tests.batch.deliveries import AT, delivery, identity, item, keys


class TestRebuild:
    @pytest.fixture
    def put(self, s3, bucket):
        def put(key, *items, account="account-1", **more):
            content = {
                "version": 2,
                "state": "complete",
                "target": {"account": account},
                "owner": {"dag_id": "dag", "run_id": "run", "task_id": "task", "map_index": -1},
                "items": list(items),
                **more,
            }
            s3.put_object(Bucket=bucket, Key=key, Body=json.dumps(content).encode())
            return f"s3://{bucket}/{key}"

        return put

    def run(self, s3, bucket, *sources):
        return rebuild(s3, f"s3://{bucket}/ledger/", sources)

    def test_it_gives_the_very_same_entries(self, ledger, s3, bucket, put):
        manifest = put("_manifests/1.json", *(item(number, number) for number in range(100)))
        written = {identity(number): ledger.record(identity(number), delivery(number)) for number in range(100)}
        for each in written:
            ledger.forget(each)

        assert self.run(s3, bucket, manifest) == ({"account-1": 100}, [])

        rebuilt = ledger.load(written)
        assert rebuilt == written
        assert {name: each.etag for name, each in rebuilt.items()} == {n: each.etag for n, each in written.items()}

    def test_again_adds_nothing(self, s3, bucket, put, ledger):
        manifest = put("_manifests/1.json", item(1), item(2))

        assert self.run(s3, bucket, manifest) == ({"account-1": 2}, [])
        assert self.run(s3, bucket, manifest) == ({"account-1": 0}, [])

    def test_what_was_not_delivered_is_not_recorded(self, s3, bucket, put, ledger):
        manifest = put(
            "_manifests/1.json",
            item(1, objects=None, error="ReportFatalError: no", status="FATAL"),
            item(2, objects=None, skipped=True, status="CANCELLED", report_document_id=None),
            item(3),
        )

        assert self.run(s3, bucket, manifest) == ({"account-1": 1}, [])
        assert ledger.load(map(identity, (1, 2, 3))) == {identity(3): delivery(3)}

    def test_a_folder_has_the_manifests_of_all_accounts(self, s3, bucket, put, ledger):
        put("_manifests/z/first.json", item(1))
        put("_manifests/a/second.json", item(2))
        put("_manifests/other.json", item(1), account="account-2")
        put("_manifests/running.json", state="running", items=None)
        s3.put_object(Bucket=bucket, Key="_manifests/a/second.parts/1.gz", Body=b"\x1f\x8b")

        assert self.run(s3, bucket, f"s3://{bucket}/_manifests/") == (
            {"account-1": 2, "account-2": 1},
            [f"s3://{bucket}/_manifests/running.json"],
        )
        assert Ledger(s3, f"s3://{bucket}/ledger/", account="account-2").entries() == {identity(1): delivery(1)}

    def test_the_last_batch_that_stored_it_counts(self, s3, bucket, put, ledger):
        """It did so because the former objects were missing."""
        later, latest = (AT.timestamp() + days * 86400 for days in (1, 2))
        put("_manifests/1.json", item(1, report_id="first"), item(2))
        put("_manifests/2.json", item(1, report_id="again", stored_at=later))
        known = [
            item(
                each,
                already_delivered=True,
                stored_at=latest,
                report_id=None,
                report_document_id=None,
                delivered={
                    "report_id": f"report-{each}",
                    "report_document_id": f"document-{each}",
                    "delivered_at": AT.isoformat(),
                    "by": "other/run/task",
                },
            )
            for each in (1, 2, 3)
        ]
        put("_manifests/3.json", *known)

        assert self.run(s3, bucket, f"s3://{bucket}/_manifests/")[0] == {"account-1": 3}

        assert ledger.find(identity(1)).report_id == "again"
        assert ledger.find(identity(2)) == delivery(2)
        # Of whose own batch there is no manifest.
        assert ledger.find(identity(3)) == delivery(3, by="other/run/task")

    def test_what_is_there_stays(self, s3, bucket, put, ledger):
        ledger.record(identity(1), delivery(1, by="before"))

        assert self.run(s3, bucket, put("_manifests/1.json", item(1))) == ({"account-1": 0}, [])
        assert ledger.find(identity(1)).by == "before"

    def test_an_unknown_time_is_that_of_the_manifest(self, s3, bucket, put, ledger):
        manifest = put("_manifests/1.json", item(1, stored_at=None))

        self.run(s3, bucket, manifest)

        age = datetime.now(timezone.utc) - ledger.find(identity(1)).delivered_at
        assert timedelta(minutes=-1) < age < timedelta(minutes=5)

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"[]",
            b"{}",
            b'{"version": 2, "state": "complete", "target": {"account": "account-1"}}',
            b'{"version": 3, "state": "complete", "target": {"account": "account-1"}, "items": []}',
            b'{"version": 2, "state": 1, "target": 2}',
        ],
    )
    def test_what_is_no_manifest_is_an_error(self, s3, bucket, body):
        s3.put_object(Bucket=bucket, Key="_manifests/1.json", Body=body)

        with pytest.raises(LedgerError, match=r"_manifests/1\.json"):
            self.run(s3, bucket, f"s3://{bucket}/_manifests/")

    @pytest.mark.parametrize("wrong", [{"fingerprint": "1"}, {"objects": [{}]}, {"report_type": None}])
    def test_a_damaged_item_records_nothing(self, s3, bucket, put, wrong):
        manifest = put("_manifests/1.json", item(1), item(2, **wrong))

        with pytest.raises(LedgerError, match=r"_manifests/1\.json is damaged"):
            self.run(s3, bucket, manifest)
        assert keys(s3, bucket, "ledger/") == []

    def test_a_manifest_that_is_missing_is_an_error(self, s3, bucket):
        with pytest.raises(LedgerError, match="There is no manifest"):
            self.run(s3, bucket, f"s3://{bucket}/_manifests/missing.json")
