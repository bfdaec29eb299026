"""What was delivered is remembered across runs: exactly, and by many writers at once."""

from __future__ import annotations

import json
import threading
import uuid
from dataclasses import replace

import boto3
import pytest
from botocore.exceptions import ConnectionClosedError
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from moto import mock_aws

from airflow_provider_amzbiz.batch import ledger as ledger_module
from airflow_provider_amzbiz.batch import ledger_index
from airflow_provider_amzbiz.batch.ledger import Ledger, LedgerError
from airflow_provider_amzbiz.batch.object_store import in_threads
from airflow_provider_amzbiz.client.errors import InvalidParameterError
from airflow_provider_amzbiz.documents import s3_object
from airflow_provider_amzbiz.documents.errors import DocumentStorageError
from tests.batch.deliveries import delivery, entry_key, identity, keys
from tests.documents.s3_faults import error_response
from tests.fuzzing import bounded


class TestOneEntry:
    def test_what_was_recorded_is_found(self, ledger):
        recorded = ledger.record(identity(1), delivery(1))

        assert recorded == delivery(1) == ledger.find(identity(1))
        assert recorded.etag == ledger.find(identity(1)).etag
        assert ledger.load([identity(1), identity(2)]) == {identity(1): delivery(1)}
        assert ledger.find(identity(2)) is None

    def test_it_is_an_object_that_a_person_can_read(self, ledger, s3, bucket):
        ledger.record(identity(1), delivery(1))

        stored = s3.get_object(Bucket=bucket, Key=entry_key(1))
        assert stored["ContentType"] == "application/json"
        content = json.loads(stored["Body"].read())
        assert content["report_options"] == {"invoiceId": "1", "documentType": "Invoice"}
        assert content["delivered_at"] == "2026-11-02T03:04:05.000678+00:00"
        assert (content["account"], content["identity"]) == ("account-1", identity(1))

    def test_the_first_delivery_stays(self, ledger):
        ledger.record(identity(1), delivery(1, by="first"))
        second = ledger.record(identity(1), delivery(1, by="second"))

        assert second.by == "first"
        assert ledger.find(identity(1)).by == "first"

    def test_accounts_and_ledgers_know_nothing_of_each_other(self, s3, bucket, ledger):
        ledger.record(identity(1), delivery(1))

        assert Ledger(s3, f"s3://{bucket}/ledger/", account="account-2").find(identity(1)) is None
        assert Ledger(s3, f"s3://{bucket}/other/", account="account-1").find(identity(1)) is None
        # With or without the slash, it is one ledger.
        assert Ledger(s3, f"s3://{bucket}/ledger", account="account-1").find(identity(1)) == delivery(1)

    def test_what_was_forgotten_is_delivered_again(self, ledger):
        ledger.record(identity(1), delivery(1, by="first"))

        assert ledger.forget(identity(1))
        assert ledger.find(identity(1)) is None
        assert ledger.load([identity(1)]) == {}
        assert not ledger.forget(identity(1))
        assert ledger.record(identity(1), delivery(1, by="second")).by == "second"

    @pytest.mark.parametrize("uri", ["", "s3://", "s3://bucket", "https://bucket/a/", "bucket/a/", None, 7])
    def test_a_uri_that_is_none_is_named(self, s3, uri):
        with pytest.raises(InvalidParameterError, match=r"ledger is .*must be an S3 URI such as"):
            Ledger(s3, uri, account="a")

    @pytest.mark.parametrize("account", ["", "a/b", "../a", "ä", " a", None, 7, "a" * 129])
    def test_an_account_that_is_no_part_of_a_key_is_refused(self, s3, account):
        with pytest.raises(InvalidParameterError, match="account is"):
            Ledger(s3, "s3://bucket/a/", account=account)

    @pytest.mark.parametrize("wrong", ["", "1", "A" * 64, "../" + "a" * 61, None])
    def test_an_identity_that_is_none_is_refused(self, ledger, wrong):
        for call in (
            ledger.find,
            ledger.forget,
            lambda each: ledger.load([each]),
            lambda each: ledger.record(each, delivery(1)),
        ):
            with pytest.raises(InvalidParameterError, match="identity is"):
                call(wrong)


class TestWriters:
    def test_of_many_at_once_one_delivers(self, s3_server, s3, bucket):
        together = threading.Barrier(6)

        def write(number):
            own = Ledger(s3_server.client(), f"s3://{bucket}/ledger/", account="account-1")
            together.wait()
            return own.record(identity(1), delivery(1, by=f"run {number}"))

        results = in_threads(write, range(6))

        assert len({each.by for each in results}) == 1
        assert len({each.etag for each in results}) == 1
        assert len(keys(s3, bucket)) == 1

    def test_an_own_write_whose_response_was_lost_is_its_own(self, ledger, s3, monkeypatch, calls):
        monkeypatch.setattr("botocore.endpoint.time.sleep", lambda _: None)
        send, lost = s3._endpoint.http_session.send, []

        def lose(sent):
            answer = send(sent)
            if sent.method == "PUT" and not lost:
                lost.append(sent.url)
                raise ConnectionClosedError(endpoint_url=sent.url)
            return answer

        monkeypatch.setattr(s3._endpoint.http_session, "send", lose)

        recorded = ledger.record(identity(1), delivery(1))

        assert lost
        assert recorded == delivery(1)
        assert recorded.etag == ledger.find(identity(1)).etag
        assert calls["PutObject"] == 1

    @pytest.fixture
    def conflict(self, s3, monkeypatch):
        monkeypatch.setattr(s3_object, "CONFLICT_PAUSES", (0.01, 0.01))

        def start(times):
            seen = []

            def answer(request, **_):
                seen.append(request.method)
                return error_response(request, 409, "ConditionalRequestConflict") if len(seen) <= times else None

            s3.meta.events.register("before-send.s3.PutObject", answer)
            return seen

        return start

    def test_a_conflict_that_passes_is_waited_out(self, ledger, conflict):
        seen = conflict(2)

        assert ledger.record(identity(1), delivery(1)) == delivery(1)
        assert len(seen) == 3

    def test_a_conflict_that_stays_is_an_error_for_a_retry(self, ledger, conflict):
        conflict(1000)

        with pytest.raises(DocumentStorageError, match="ConditionalRequestConflict") as caught:
            ledger.record(identity(1), delivery(1))
        assert not caught.value.permanent

    def test_a_delivery_whose_objects_are_missing_is_replaced(self, ledger):
        old = ledger.record(identity(1), delivery(1, by="old"))

        new = ledger.record(identity(1), delivery(1, by="new"), replaces=old)

        assert new.by == ledger.find(identity(1)).by == "new"

    def test_only_the_one_that_was_found_is_replaced(self, ledger):
        old = ledger.record(identity(1), delivery(1, by="old"))
        ledger.record(identity(1), delivery(1, by="quicker"), replaces=old)

        late = ledger.record(identity(1), delivery(1, by="late"), replaces=old)

        assert late.by == ledger.find(identity(1)).by == "quicker"

    def test_one_that_was_forgotten_meanwhile_is_written(self, ledger):
        old = ledger.record(identity(1), delivery(1, by="old"))
        ledger.forget(identity(1))

        assert ledger.record(identity(1), delivery(1, by="new"), replaces=old).by == "new"
        assert ledger.find(identity(1)).by == "new"


class TestUnusableEntries:
    """They are never taken for "not delivered"."""

    CONTENTS = {
        "empty": (b"", "is damaged: it is no JSON"),
        "cut": (b'{"version": 1, "acc', "is damaged: it is no JSON"),
        "of something else": (b'["a"]', "is damaged: its version is None"),
        "newer": (b'{"version": 2}', "has version 2, and this release of the provider reads up to 1"),
    }

    @pytest.fixture
    def entry(self, ledger, s3, bucket):
        """The content of an entry, to be changed."""
        ledger.record(identity(1), delivery(1))
        return json.loads(s3.get_object(Bucket=bucket, Key=entry_key(1))["Body"].read())

    def assert_refused(self, ledger, bucket, message):
        for call in (ledger.find, lambda each: ledger.load([each]), lambda each: ledger.record(each, delivery(1))):
            with pytest.raises(LedgerError, match=message) as caught:
                call(identity(1))
            assert f"s3://{bucket}/{entry_key(1)}" in str(caught.value)

    @pytest.mark.parametrize(("body", "message"), CONTENTS.values(), ids=CONTENTS)
    def test_the_error_names_the_entry_and_the_remedy(self, ledger, s3, bucket, body, message):
        s3.put_object(Bucket=bucket, Key=entry_key(1), Body=body)

        self.assert_refused(ledger, bucket, message)

        assert ledger.forget(identity(1))
        assert ledger.record(identity(1), delivery(1)) == delivery(1)

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("objects", []),
            ("objects", None),
            ("objects", [{"uri": "s3://b/k"}]),
            ("objects", ["s3://b/k"]),
            ("report_id", None),
            ("report_options", "invoiceId"),
            ("delivered_at", "yesterday"),
            ("delivered_at", "2026-01-01T00:00:00"),
            ("by", 7),
        ],
    )
    def test_a_part_that_is_wrong_is_named(self, ledger, s3, bucket, entry, name, value):
        s3.put_object(Bucket=bucket, Key=entry_key(1), Body=json.dumps({**entry, name: value}).encode())

        self.assert_refused(ledger, bucket, "is damaged: ")

    @pytest.mark.parametrize(("name", "value"), [("account", "account-2"), ("identity", identity(2))])
    def test_an_entry_of_something_else_is_refused(self, ledger, s3, bucket, entry, name, value):
        s3.put_object(Bucket=bucket, Key=entry_key(1), Body=json.dumps({**entry, name: value}).encode())

        self.assert_refused(ledger, bucket, "somebody has moved or copied it")

    def test_what_a_later_release_adds_is_no_fault(self, ledger, s3, bucket, entry):
        s3.put_object(Bucket=bucket, Key=entry_key(1), Body=json.dumps({**entry, "more": 1}).encode())

        assert ledger.find(identity(1)) == delivery(1)

    def test_a_bucket_that_is_missing_is_no_empty_ledger(self, s3):
        ledger = Ledger(s3, f"s3://missing-{uuid.uuid4().hex}/ledger/", account="a")

        for call in (
            lambda: ledger.find(identity(1)),
            lambda: ledger.load(map(identity, range(100))),
            lambda: ledger.record(identity(1), delivery(1)),
        ):
            with pytest.raises(DocumentStorageError, match="NoSuchBucket") as caught:
                call()
            assert caught.value.permanent

    def test_a_denied_listing_names_the_action(self, ledger, s3):
        def deny(request, **_):
            return error_response(request, 403, "AccessDenied")

        s3.meta.events.register("before-send.s3.ListObjectsV2", deny)

        with pytest.raises(DocumentStorageError, match="ListObjectsV2 needs s3:ListBucket") as caught:
            ledger.load(map(identity, range(100)))
        assert caught.value.permanent

    def test_a_body_that_breaks_is_read_again(self, ledger, s3):
        ledger.record(identity(1), delivery(1))
        broken = []

        def cut(http_response, parsed, **_):
            if not broken:
                broken.append(parsed["Body"].read())
                parsed["ContentLength"] += 1

        s3.meta.events.register("after-call.s3.GetObject", cut)

        assert ledger.find(identity(1)) == delivery(1)
        assert broken


class TestRequestArguments:
    ALL = {
        "RequestPayer": "requester",
        "ExpectedBucketOwner": "123456789012",
        "ServerSideEncryption": "aws:kms",
        "SSEKMSKeyId": "key-1",
        "StorageClass": "GLACIER",
        "Tagging": "team=data",
        "ObjectLockMode": "COMPLIANCE",
    }

    @pytest.fixture
    def moto(self):
        with mock_aws():
            client = boto3.client("s3", "us-east-1", aws_access_key_id="a", aws_secret_access_key="b")
            client.create_bucket(Bucket="ledgers")
            yield client

    @pytest.fixture
    def sent(self, moto):
        """The headers of each operation."""
        headers = {}
        moto.meta.events.register(
            "before-call.s3",
            lambda model, params, **_: headers.setdefault(model.name, []).append(params["headers"]),
        )
        return headers

    def use(self, moto, arguments):
        ledger = Ledger(moto, "s3://ledgers/l/", account="a", request_args=arguments)
        for number in range(70):
            ledger.record(identity(number), delivery(number))
        assert len(ledger.load(map(identity, range(70)))) == 70
        assert ledger.forget(identity(1))
        moto.put_object(
            Bucket="ledgers",
            Key="invoices/1.pdf",
            Body=b"1",
            **{name: each for name, each in arguments.items() if name.startswith("SSEC")},
        )
        assert ledger.missing_object(delivery(1, uri="s3://ledgers/invoices/1.pdf", bytes=2)) is not None

    def test_who_pays_and_who_owns_is_said_with_every_request(self, moto, sent):
        self.use(moto, self.ALL)

        assert set(sent) == {"PutObject", "GetObject", "ListObjectsV2", "DeleteObject", "HeadObject"}
        ours = [
            each
            for name, all_sent in sent.items()
            for each in (all_sent[:-1] if name == "PutObject" else all_sent)
        ]
        assert {each["x-amz-request-payer"] for each in ours} == {"requester"}
        assert {each["x-amz-expected-bucket-owner"] for each in ours} == {"123456789012"}

    def test_entries_are_encrypted_and_are_no_documents(self, moto, sent):
        self.use(moto, self.ALL)

        for each in sent["PutObject"][:-1]:
            assert each["x-amz-server-side-encryption"] == "aws:kms"
            assert each["x-amz-server-side-encryption-aws-kms-key-id"] == "key-1"
            assert not {"x-amz-storage-class", "x-amz-tagging", "x-amz-object-lock-mode"} & set(each)

    def test_a_key_of_ones_own_goes_where_s3_wants_it(self, moto, sent):
        self.use(moto, {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": "k" * 32})

        name = "x-amz-server-side-encryption-customer-key"
        for operation in ("PutObject", "GetObject", "HeadObject"):
            assert all(name in each for each in sent[operation]), operation
        for operation in ("ListObjectsV2", "DeleteObject"):
            assert not any(name in each for each in sent[operation]), operation


class TestObjects:
    @pytest.fixture
    def stored(self, s3, bucket):
        """A delivery whose two objects are in S3."""
        s3.put_object(Bucket=bucket, Key="a.pdf", Body=b"first", ChecksumCRC32=crc32(b"first"))
        s3.put_object(Bucket=bucket, Key="b.pdf", Body=b"second", ChecksumCRC32=crc32(b"second"))
        described = [
            {**delivery(1).objects[0], "uri": f"s3://{bucket}/{key}", "bytes": len(body), "crc32": crc32(body)}
            for key, body in (("a.pdf", b"first"), ("b.pdf", b"second"))
        ]
        return replace(delivery(1), objects=tuple(described))

    def test_that_are_the_same_are_there(self, ledger, stored, calls):
        assert ledger.missing_object(stored) is None
        assert calls == {"HeadObject": 2}

    def test_one_that_was_deleted_is_named(self, ledger, stored, s3, bucket):
        s3.delete_object(Bucket=bucket, Key="b.pdf")

        assert ledger.missing_object(stored) == f"s3://{bucket}/b.pdf is missing"

    def test_one_of_another_size_is_another_one(self, ledger, stored, s3, bucket):
        s3.put_object(Bucket=bucket, Key="a.pdf", Body=b"longer than before")

        assert ledger.missing_object(stored) == f"s3://{bucket}/a.pdf has 18 bytes, not 5"

    def test_one_of_another_content_is_another_one(self, ledger, stored, s3, bucket):
        s3.put_object(Bucket=bucket, Key="a.pdf", Body=b"FIRST", ChecksumCRC32=crc32(b"FIRST"))

        assert "has the CRC32" in ledger.missing_object(stored)

    def test_where_there_is_no_checksum_the_size_counts(self, s3_server, stored, bucket):
        plain = s3_server.client(request_checksum_calculation="when_required")
        sent = []
        plain.meta.events.register("before-call.s3.HeadObject", lambda params, **_: sent.append(params["headers"]))

        assert Ledger(plain, f"s3://{bucket}/ledger/", account="a").missing_object(stored) is None
        assert not any("x-amz-checksum-mode" in each for each in sent)

    @pytest.mark.parametrize(("status", "code"), [(403, "AccessDenied"), (503, "SlowDown"), (400, "BadRequest")])
    def test_what_s3_does_not_say_is_no_answer(self, ledger, stored, s3, status, code, monkeypatch):
        monkeypatch.setattr("botocore.endpoint.time.sleep", lambda _: None)
        s3.meta.events.register(
            "before-send.s3.HeadObject", lambda request, **_: error_response(request, status, code)
        )

        with pytest.raises(DocumentStorageError):
            ledger.missing_object(stored)


def crc32(content):
    import base64
    import zlib

    return base64.b64encode(zlib.crc32(content).to_bytes(4, "big")).decode()


class LedgerMachine(RuleBasedStateMachine):
    """Runs that record, forget, index and load in any order, against a dict."""

    INVOICES = st.integers(0, 30)

    def __init__(self):
        super().__init__()
        self.mock = mock_aws()
        self.mock.start()
        s3 = boto3.client("s3", "us-east-1", aws_access_key_id="a", aws_secret_access_key="b")
        s3.create_bucket(Bucket="ledgers")
        self.ledger = Ledger(s3, "s3://ledgers/l/", account="a")
        self.model = {}
        self.seen = []
        self.runs = 0

    def teardown(self):
        self.mock.stop()

    @rule(invoice=INVOICES)
    def record(self, invoice):
        self.runs += 1
        made = delivery(invoice, by=f"run {self.runs}")
        assert self.ledger.record(identity(invoice), made) == self.model.setdefault(identity(invoice), made)

    @rule(invoice=INVOICES)
    def replace(self, invoice):
        found = self.ledger.find(identity(invoice))
        if found is not None:
            self.runs += 1
            made = delivery(invoice, by=f"run {self.runs}")
            assert self.ledger.record(identity(invoice), made, replaces=found) == made
            self.model[identity(invoice)] = made
            self.seen.append((identity(invoice), found))

    @rule(choice=st.integers(0, 1000))
    def replace_what_is_no_more(self, choice):
        if self.seen:
            name, old = self.seen[choice % len(self.seen)]
            self.runs += 1
            made = replace(old, by=f"run {self.runs}", etag=None)
            assert self.ledger.record(name, made, replaces=old) == self.model.setdefault(name, made)

    @rule(invoice=INVOICES)
    def forget(self, invoice):
        assert self.ledger.forget(identity(invoice)) == (self.model.pop(identity(invoice), None) is not None)

    @rule(invoices=st.lists(INVOICES, min_size=1, max_size=20))
    def index(self, invoices):
        known = {identity(each): self.model[identity(each)] for each in invoices if identity(each) in self.model}
        self.ledger.index(known)

    @rule(invoices=st.lists(INVOICES, max_size=31))
    def load(self, invoices):
        wanted = set(map(identity, invoices))
        assert self.ledger.load(wanted) == {name: each for name, each in self.model.items() if name in wanted}

    @invariant()
    def all_is_as_it_should_be(self):
        assert self.ledger.entries() == self.model


def test_it_is_a_dict_whatever_happens(monkeypatch):
    monkeypatch.setattr(ledger_module, "_FEW", 1)
    monkeypatch.setattr(ledger_index, "ENTRIES_PER_GET", 1000)
    run_state_machine_as_test(LedgerMachine, settings=bounded(15, stateful_step_count=30))
