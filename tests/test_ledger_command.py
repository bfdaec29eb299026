"""The command that shows, forgets and rebuilds a ledger."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid

import pytest

from airflow_provider_amzbiz.batch.ledger import Ledger
from airflow_provider_amzbiz.ledger import main
from tests.batch.deliveries import delivery, identity, item


@pytest.fixture
def bucket(s3_server, s3):
    return s3_server.make_bucket(f"command-{uuid.uuid4().hex[:12]}")


@pytest.fixture
def uri(bucket):
    return f"s3://{bucket}/ledger/"


@pytest.fixture
def ledger(s3, uri):
    """Two deliveries of one account."""
    ledger = Ledger(s3, uri, account="account-1")
    for invoice in (1, 2):
        ledger.record(identity(invoice), delivery(invoice))
    return ledger


@pytest.fixture
def credentials(s3_server):
    """The S3 server in boto3's own credential chain."""
    return {
        "AWS_ACCESS_KEY_ID": s3_server.access_key,
        "AWS_SECRET_ACCESS_KEY": s3_server.secret_key,
        "AWS_DEFAULT_REGION": s3_server.region,
        "AWS_ENDPOINT_URL": s3_server.endpoint_url,
    }


@pytest.fixture
def run(credentials, monkeypatch, capsys):
    """Run the command; return its code, output and errors."""
    for name, value in credentials.items():
        monkeypatch.setenv(name, value)

    def run(*arguments):
        return main(arguments), *capsys.readouterr()

    return run


def test_it_shows_deliveries_as_json_lines(ledger, uri, run):
    code, out, err = run("show", uri)

    assert (code, err) == (0, "")
    shown = [json.loads(line) for line in out.splitlines()]
    assert {each["identity"] for each in shown} == {identity(1), identity(2)}
    assert all(
        {**each} == {"identity": each["identity"], **delivery(each["report_id"][-1]).to_dict()} for each in shown
    )


def test_the_state_of_a_feed_is_no_account(ledger, s3, bucket, uri, run):
    s3.put_object(Bucket=bucket, Key="ledger/feed/account-1/cursor.json", Body=b"{}")

    code, out, err = run("show", uri)

    assert (code, len(out.splitlines()), err) == (0, 2, "")


def test_it_shows_one_by_its_options(ledger, uri, run):
    code, out, _ = run("show", uri, "--option", "invoiceId=2", "--option", "documentType=Invoice")

    assert code == 0
    assert json.loads(out)["report_options"]["invoiceId"] == "2"


@pytest.mark.parametrize("what", [["--option", "invoiceId=3"], ["--identity", identity(3)]])
@pytest.mark.parametrize("command", ["show", "forget"])
def test_what_is_not_there_is_an_error(ledger, uri, run, command, what):
    assert run(command, uri, *what) == (1, "", "There is no such delivery\n")


def test_it_forgets_one(ledger, uri, run):
    code, out, _ = run("forget", uri, "--option", "invoiceId=1")

    assert (code, out) == (
        0,
        "Forgot documentType=Invoice, invoiceId=1, report report-1: s3://my-bucket/invoices/1.pdf\n",
    )
    assert set(ledger.entries()) == {identity(2)}


def test_it_forgets_a_damaged_one_by_its_identity(ledger, s3, bucket, uri, run):
    s3.put_object(Bucket=bucket, Key=f"ledger/account-1/deliveries/{identity(1)}.json", Body=b"damaged")

    code, out, err = run("show", uri)
    assert (code, out) == (1, "")
    assert f"deliveries/{identity(1)}.json is damaged" in err

    assert run("forget", uri, "--identity", identity(1))[0] == 0
    assert set(ledger.entries()) == {identity(2)}


def test_it_forgets_several_only_if_told_so(ledger, uri, run):
    code, out, err = run("forget", uri, "--option", "documentType=Invoice")

    assert (code, out) == (1, "")
    assert err.startswith("2 deliveries match; nothing was forgotten")
    assert identity(1) in err
    assert len(ledger.entries()) == 2

    assert run("forget", uri, "--option", "documentType=Invoice", "--all")[0] == 0
    assert ledger.entries() == {}


def test_it_forgets_nothing_without_a_name(ledger, uri, run):
    assert run("forget", uri, "--all") == (1, "", "Name the request with --identity or --option\n")
    assert len(ledger.entries()) == 2


def test_of_several_accounts_one_is_named(ledger, s3, uri, run):
    Ledger(s3, uri, account="account-2").record(identity(1), delivery(1, by="other"))

    code, _, err = run("forget", uri, "--option", "invoiceId=1")
    assert code == 1
    assert "Name the account with --account" in err
    assert "account-1, account-2" in err

    assert run("forget", uri, "--option", "invoiceId=1", "--account", "account-2")[0] == 0
    assert len(ledger.entries()) == 2


def test_an_address_without_a_ledger_is_an_error(s3, bucket, run):
    code, _, err = run("show", f"s3://{bucket}/elsewhere/")

    assert code == 1
    assert "is the address right?" in err


def test_it_rebuilds(ledger, s3, bucket, uri, run):
    manifest = {"version": 2, "state": "complete", "target": {"account": "account-1"}, "items": [item(1), item(3)]}
    s3.put_object(Bucket=bucket, Key="_manifests/1.json", Body=json.dumps(manifest).encode())

    assert run("rebuild", uri, f"s3://{bucket}/_manifests/") == (0, "Account account-1: 1 new entries\n", "")
    assert set(ledger.entries()) == {identity(1), identity(2), identity(3)}


def test_what_it_left_out_is_an_error(s3, bucket, uri, run):
    manifest = {"version": 2, "state": "running", "target": {"account": "account-1"}}
    s3.put_object(Bucket=bucket, Key="_manifests/1.json", Body=json.dumps(manifest).encode())

    code, _, err = run("rebuild", uri, f"s3://{bucket}/_manifests/")
    assert code == 1
    assert f"s3://{bucket}/_manifests/1.json was left out, because its batch has not ended" in err


def test_it_copies_what_an_account_had_by_its_former_token(ledger, s3, uri, run):
    renewed = Ledger(s3, uri, account="account-2")
    renewed.record(identity(2), delivery(2, by="new token"))

    assert run("copy", uri, "--source", "account-1", "--target", "account-2") == (0, "1 new entries of 2\n", "")
    assert {each.by for each in renewed.entries().values()} == {"dag/run/task", "new token"}
    assert len(ledger.entries()) == 2
    assert run("copy", uri, "--source", "account-3", "--target", "account-2")[0] == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["show", "s3:/x"], "ledger is 's3:/x'"),
        (["rebuild", "{uri}", "s3://{bucket}/none.json"], "There is no manifest"),
        (["show", "{uri}", "--account", "a/b"], "account is 'a/b'"),
        (["show", "{uri}", "--identity", "1"], "identity is '1'"),
        (["show", "s3://missing-bucket-of-nobody/x/"], "NoSuchBucket"),
    ],
)
def test_what_is_wrong_is_one_line(ledger, uri, bucket, run, arguments, said):
    code, out, err = run(*(each.format(uri=uri, bucket=bucket) for each in arguments))

    assert (code, out) == (1, "")
    assert said in err
    assert len(err.splitlines()) == 1


def test_a_connection_that_is_missing_is_named(ledger, uri, run):
    code, _, err = run("show", uri, "--aws-conn-id", "missing")

    assert code == 1
    assert "There is no connection 'missing'" in err


@pytest.mark.parametrize("value", ['{"SSECustomerKey": "secret-key"', '["secret-key"]', "secret-key"])
def test_what_may_be_a_key_is_not_shown(uri, capsys, value):
    with pytest.raises(SystemExit):
        main(["show", uri, "--extra-args", value])
    err = capsys.readouterr().err
    assert "must be a JSON object" in err
    assert "secret-key" not in err


def test_arguments_of_s3_may_come_from_a_file(ledger, s3, uri, tmp_path, monkeypatch, run):
    sent = []
    file = tmp_path / "extra_args.json"
    file.write_text('{"RequestPayer": "requester"}')
    from airflow_provider_amzbiz.transfers import s3_connection

    s3.meta.events.register("before-call.s3", lambda params, **_: sent.append(params["headers"]))
    monkeypatch.setattr(s3_connection, "s3_client", lambda _: s3)

    assert run("show", uri, "--extra-args", f"@{file}")[0] == 0
    assert {each["x-amz-request-payer"] for each in sent} == {"requester"}

    with pytest.raises(SystemExit):
        run("show", uri, "--extra-args", f"@{file}.missing")


@pytest.mark.parametrize("connection", [[], ["--aws-conn-id", "aws_default"]])
def test_it_runs_as_a_module(ledger, s3_server, uri, credentials, connection):
    given = {"AIRFLOW_CONN_AWS_DEFAULT": json.dumps(s3_server.airflow_connection)} if connection else credentials
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "airflow_provider_amzbiz.ledger",
            "show",
            uri,
            "--option",
            "invoiceId=1",
            *connection,
        ],
        env={**os.environ, **given},
        capture_output=True,
        text=True,
        check=True,
    )
    # Whatever Airflow logs meanwhile, the output is for programs.
    assert json.loads(done.stdout)["report_id"] == "report-1"
