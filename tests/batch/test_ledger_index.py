"""The index of a ledger: it saves reading each entry, at any size, and is never believed more than they are."""

from __future__ import annotations

import gzip
import json
import random
import uuid
from collections import Counter

import boto3
import pytest
import urllib3

from airflow_provider_amzbiz.batch import ledger as ledger_module
from airflow_provider_amzbiz.batch.delivery import entry_of
from airflow_provider_amzbiz.batch.ledger import Ledger
from airflow_provider_amzbiz.batch.object_store import in_threads
from tests.batch.deliveries import delivery, entry_key, identity, keys
from tests.documents.s3_faults import error_response


class TestIndex:
    @pytest.fixture
    def entries(self, ledger):
        """A ledger of a hundred entries, without an index."""
        written = {identity(number): delivery(number) for number in range(100)}
        in_threads(lambda pair: ledger.record(*pair), list(written.items()))
        return written

    def segments(self, s3, bucket):
        return keys(s3, bucket, "ledger/account-1/index/")

    def test_it_saves_reading_each_entry(self, ledger, entries, calls):
        ledger.index(entries)
        calls.clear()

        assert ledger.load(entries) == entries
        assert calls == {"ListObjectsV2": 2, "GetObject": 1}

    def test_without_it_the_first_that_loads_makes_it(self, ledger, entries, calls):
        calls.clear()
        assert ledger.load(entries) == entries
        assert calls["GetObject"] == 100
        calls.clear()

        assert ledger.load(entries) == entries
        assert calls == {"ListObjectsV2": 2, "GetObject": 1}

    def test_an_etag_that_cannot_be_foretold_costs_one_reading(self, ledger, entries, calls, monkeypatch):
        """As with SSE-KMS."""
        monkeypatch.setattr(ledger_module, "_usual_etag", lambda *_: '"0123"')
        ledger.index(entries)
        assert ledger.load(entries) == entries
        calls.clear()

        assert ledger.load(entries) == entries
        assert calls == {"ListObjectsV2": 2, "GetObject": 1}

    def test_etags_without_quotes_in_a_listing_are_the_same(self, ledger, entries, s3, calls):
        def unquote(parsed, **_):
            for entry in parsed.get("Contents", ()):
                entry["ETag"] = entry["ETag"].strip('"')

        s3.meta.events.register("after-call.s3.ListObjectsV2", unquote)
        assert ledger.load(entries) == entries
        calls.clear()

        assert ledger.load(entries) == entries
        assert calls == {"ListObjectsV2": 2, "GetObject": 1}

    def test_an_entry_that_changes_between_listing_and_reading_is_no_copy(self, ledger, entries, s3, bucket):
        """A rebuild may write the former one again, of the very ETag that was listed."""
        key = entry_key(7)
        former = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
        newer = entry_of("account-1", identity(7), delivery(7, by="newer"))
        changed = []

        def change(request, **_):
            if request.url.endswith(key) and not changed:
                changed.append(key)
                s3.put_object(Bucket=bucket, Key=key, Body=newer)

        s3.meta.events.register("before-send.s3.GetObject", change)
        assert ledger.load(entries)[identity(7)].by == "newer"
        s3.put_object(Bucket=bucket, Key=key, Body=former)

        assert ledger.load(entries) == entries

    def test_a_bucket_that_is_listed_in_another_order(self, ledger, entries, s3, monkeypatch):
        """As S3 lists a directory bucket: what a listing that is left early has not shown may be there."""
        monkeypatch.setattr(ledger_module, "ENTRIES_PER_GET", 0.3)
        names = random.Random(1).sample(list(entries), 100)
        shown = []

        def take_ten(params, **_):
            params["MaxKeys"] = 10

        def reorder(parsed, **_):
            for entry in parsed["Contents"]:
                entry["Key"] = f"ledger/account-1/deliveries/{names[len(shown)]}.json"
                shown.append(entry["Key"])

        s3.meta.events.register("before-parameter-build.s3.ListObjectsV2", take_ten)
        s3.meta.events.register("after-call.s3.ListObjectsV2", reorder)
        wanted = [*names[:40], *names[60:90], identity("new")]

        assert ledger.load(wanted) == {name: entries[name] for name in wanted[:-1]}
        assert 0 < len(shown) < 100

    def test_what_was_forgotten_is_not_found_in_it(self, ledger, entries, calls):
        ledger.index(entries)
        ledger.forget(identity(7))
        calls.clear()

        assert ledger.load(entries) == {name: each for name, each in entries.items() if name != identity(7)}
        assert calls == {"ListObjectsV2": 2, "GetObject": 1}

    def test_what_was_delivered_again_is_read_from_its_entry(self, ledger, entries):
        ledger.index(entries)
        for number in range(70):
            ledger.forget(identity(number))
            ledger.record(identity(number), delivery(number, by="again"))

        assert Counter(each.by for each in ledger.load(entries).values()) == {"again": 70, "dag/run/task": 30}

    def test_many_small_segments_become_few(self, ledger, entries, s3, bucket, calls):
        for number, each in enumerate(entries.items(), 1):
            ledger.index(dict([each]))
            # Fewer than eight of each size.
            assert len(self.segments(s3, bucket)) <= 7 * (1 + number.bit_length() // 3)
        # Each entry was written once, and joined once for each size.
        assert calls["PutObject"] <= 100 + 100 + 100 / 8 + 100 / 64
        calls.clear()

        assert ledger.load(entries) == entries
        assert calls["GetObject"] <= 64 + 8

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"no gzip",
            gzip.compress(b"{}")[:-4],
            gzip.compress(b"no JSON"),
            gzip.compress(b"[]"),
            gzip.compress(b'{"version": 2, "account": "account-1", "entries": {}}'),
            gzip.compress(b'{"version": 1, "account": "account-2", "entries": {}}'),
            gzip.compress(b'{"version": 1, "account": "account-1", "entries": []}'),
            gzip.compress(b'{"version": 1, "account": "account-1", "entries": {"a": 1}}'),
        ],
        ids=range(9),
    )
    def test_a_segment_that_cannot_be_used_is_left_out(self, ledger, entries, s3, bucket, body, caplog):
        ledger.index(entries)
        (segment,) = self.segments(s3, bucket)
        s3.put_object(Bucket=bucket, Key=segment, Body=body)

        assert ledger.load(entries) == entries
        assert segment in caplog.text

    def test_a_copy_that_is_no_delivery_is_read_from_its_entry(self, ledger, entries, s3, bucket):
        ledger.index(entries)
        (segment,) = self.segments(s3, bucket)
        content = json.loads(gzip.decompress(s3.get_object(Bucket=bucket, Key=segment)["Body"].read()))
        for etag_and_copy in content["entries"].values():
            etag_and_copy[1]["objects"] = None
        s3.put_object(Bucket=bucket, Key=segment, Body=gzip.compress(json.dumps(content).encode()))

        assert ledger.load(entries) == entries

    def test_a_segment_that_another_process_has_joined_is_no_fault(self, ledger, entries, s3, bucket):
        ledger.index(entries)
        (segment,) = self.segments(s3, bucket)

        def join(request, **_):
            if segment in request.url:
                return error_response(request, 404, "NoSuchKey")
            return None

        s3.meta.events.register("before-send.s3.GetObject", join)

        assert ledger.load(entries) == entries

    @pytest.mark.parametrize("operation", ["PutObject", "DeleteObject", "ListObjectsV2"])
    def test_that_it_cannot_be_written_is_a_warning(self, ledger, entries, s3, bucket, caplog, operation):
        for each in list(entries.items())[:7]:
            ledger.index(dict([each]))
        s3.meta.events.register(
            f"before-send.s3.{operation}", lambda request, **_: error_response(request, 403, "AccessDenied")
        )

        ledger.index({identity(8): delivery(8)})

        assert "AccessDenied" in caplog.text
        assert operation in caplog.text
        # Where nothing can be deleted, nothing is joined, so that nothing is kept twice.
        assert len(self.segments_of_another_client(s3, bucket)) == (7 if operation == "PutObject" else 8)

    def segments_of_another_client(self, s3, bucket):
        credentials = s3._get_credentials() if hasattr(s3, "_get_credentials") else s3._request_signer._credentials
        other = boto3.client(
            "s3",
            endpoint_url=s3.meta.endpoint_url,
            region_name="us-east-1",
            aws_access_key_id=credentials.access_key,
            aws_secret_access_key=credentials.secret_key,
        )
        return self.segments(other, bucket)


TEN_THOUSAND = 10_000


@pytest.fixture(scope="module")
def deliveries():
    return {identity(number): delivery(number) for number in range(TEN_THOUSAND)}


@pytest.fixture(scope="module")
def full(s3_server, deliveries):
    """A ledger of ten thousand entries, and its client."""
    client = s3_server.client(max_pool_connections=20)
    bucket = s3_server.make_bucket(f"ledger-{uuid.uuid4().hex[:12]}")
    ledger = Ledger(client, f"s3://{bucket}/ledger/", account="account-1")
    # Ledger.record does the same, in a minute.
    http = urllib3.PoolManager(maxsize=8)

    def put(pair):
        key = f"ledger/account-1/deliveries/{pair[0]}.json"
        url = client.generate_presigned_url("put_object", Params={"Bucket": bucket, "Key": key})
        assert http.request("PUT", url, body=entry_of("account-1", *pair)).status == 200

    in_threads(put, list(deliveries.items()))
    ledger.index(deliveries)
    return client, ledger


@pytest.mark.slow
class TestTenThousand:
    """The calls to S3 that a list of ten thousand takes."""

    @pytest.fixture
    def ledger(self, full):
        return full[1]

    @pytest.fixture
    def s3(self, full):
        return full[0]

    def test_that_were_all_delivered(self, ledger, deliveries, calls):
        assert ledger.load(deliveries) == deliveries
        assert calls == {"ListObjectsV2": 11, "GetObject": 1}

    def test_of_which_none_was_delivered(self, ledger, calls):
        assert ledger.load(identity(f"new {number}") for number in range(TEN_THOUSAND)) == {}
        assert calls == {"ListObjectsV2": 10}

    def test_a_short_list_reads_no_long_listing(self, ledger, deliveries, calls):
        wanted = [*list(deliveries)[:70], *(identity(f"new {number}") for number in range(30))]

        assert ledger.load(wanted) == {name: deliveries[name] for name in wanted[:70]}
        assert calls["ListObjectsV2"] == 1
        assert calls["GetObject"] <= 100

    def test_a_very_short_list_reads_none(self, ledger, deliveries, calls):
        wanted = list(deliveries)[:60]

        assert ledger.load(wanted) == {name: deliveries[name] for name in wanted}
        assert calls == {"GetObject": 60}

    def test_all_entries(self, ledger, deliveries):
        assert ledger.entries() == deliveries
