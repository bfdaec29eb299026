"""The connection comes from secrets backends as the documentation sets them up."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys

import boto3
import pytest
from airflow.models.connection import Connection
from moto.server import ThreadedMotoServer

from airflow_provider_amzbiz.hooks.amazon_business import AmazonBusinessHook
from dev.pages import DOCS, ROOT
from tests.airflow_names import redact

# Each starts an Airflow of its own.
pytestmark = pytest.mark.timeout(300)

FOLDER = DOCS / "operations" / "secrets"
PAGE = (DOCS / "operations" / "secrets.rst").read_text()
CONNECTION = json.loads((FOLDER / "connection.json").read_text())
SECRETS = {CONNECTION["password"], CONNECTION["extra"]["refresh_token"]}
NEW = "amzn1.oa2-cs.v1.rotated"

# Prints what a hook has read, as a log shows it; then again whenever it is told to.
SCRIPT = """
import sys
from airflow_provider_amzbiz.hooks.amazon_business import AmazonBusinessHook
from tests.airflow_names import redact

for _ in sys.stdin:
    config = AmazonBusinessHook().config
    print("login", config.client_id, flush=True)
    print("is new", config.client_secret == "amzn1.oa2-cs.v1.rotated", flush=True)
    print(redact(f"shown {config.client_secret} {config.refresh_token}"), flush=True)
"""


def settings(name):
    """Return the environment variables of one of the page's files."""
    return dict(each.split("=", 1) for each in shlex.split((FOLDER / f"{name}.env").read_text()))


@pytest.fixture
def read():
    """Start a process with such settings, which reads the connection whenever it is asked to."""
    started = []

    def start(environment):
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW_CONN", "AWS_"))}
        process = subprocess.Popen(
            [sys.executable, "-c", SCRIPT],
            env={**kept, "PYTHONPATH": str(ROOT), **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)

        def ask():
            process.stdin.write("\n")
            process.stdin.flush()
            found = []
            while not (found and found[-1].startswith("shown ")):
                line = process.stdout.readline()
                assert line, "the process has ended"
                # Airflow may log to the same place.
                found += [line.strip()] if line.startswith(("login ", "is new ", "shown ")) else []
            return found

        return ask

    yield start
    for process in started:
        process.communicate(timeout=60)


@pytest.fixture
def secrets_manager():
    """moto's Secrets Manager, and its address."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    keys = {"aws_access_key_id": "a", "aws_secret_access_key": "b"}
    url = f"http://{host}:{port}"
    yield boto3.client("secretsmanager", endpoint_url=url, region_name="eu-west-1", **keys), url
    server.stop()


def check(ask, rotate):
    """Check what is read at first, and that the next read has what was changed."""
    assert ask() == [f"login {CONNECTION['login']}", "is new False", "shown *** ***"]
    rotate({**CONNECTION, "password": NEW})
    assert ask() == [f"login {CONNECTION['login']}", "is new True", "shown *** ***"]


def test_aws_secrets_manager(secrets_manager, read, airflow_db):
    client, url = secrets_manager
    [name] = re.findall(r"create-secret --name (\S+) --secret-string file://connection.json", PAGE)
    client.create_secret(Name=name, SecretString=(FOLDER / "connection.json").read_text())
    environment = settings("aws")
    kwargs = json.loads(environment["AIRFLOW__SECRETS__BACKEND_KWARGS"])
    environment["AIRFLOW__SECRETS__BACKEND_KWARGS"] = json.dumps({**kwargs, "endpoint_url": url})
    keys = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}

    ask = read({**environment, **keys})

    check(ask, lambda changed: client.put_secret_value(SecretId=name, SecretString=json.dumps(changed)))


def test_a_file(tmp_path, read, airflow_db):
    file = tmp_path / "connections.json"

    def write(connection):
        file.write_text(json.dumps({"amazon_business_default": connection}))

    write(CONNECTION)
    environment = settings("file")
    kwargs = json.loads(environment["AIRFLOW__SECRETS__BACKEND_KWARGS"])
    assert list(kwargs) == ["connections_file_path"]
    environment["AIRFLOW__SECRETS__BACKEND_KWARGS"] = json.dumps({"connections_file_path": str(file)})

    check(read(environment), write)


def test_the_fields_in_vault_make_the_connection(monkeypatch):
    [command] = re.findall(r"vault kv put (secret/\S+ .*?'\{.*?\}')", PAGE.replace("\\\n", " "), re.DOTALL)
    path, *pairs = shlex.split(command)
    fields = dict(pair.split("=", 1) for pair in pairs)

    connection = Connection(conn_id="amazon_business_default", **fields)
    monkeypatch.setenv("AIRFLOW_CONN_AMAZON_BUSINESS_DEFAULT", connection.as_json())
    config = AmazonBusinessHook().config

    kwargs = json.loads(settings("vault")["AIRFLOW__SECRETS__BACKEND_KWARGS"])
    assert path == f"{kwargs['mount_point']}/{kwargs['connections_path']}/amazon_business_default"
    assert (config.client_id, config.client_secret, config.refresh_token) == (
        "CLIENT_ID",
        "CLIENT_SECRET",
        "Atzr|...",
    )


def test_the_name_in_google_secret_manager():
    [name] = re.findall(r"gcloud secrets create (\S+) --data-file=connection.json", PAGE)
    kwargs = json.loads(settings("gcp")["AIRFLOW__SECRETS__BACKEND_KWARGS"])

    assert name == f"{kwargs['connections_prefix']}-amazon_business_default"


def test_an_environment_variable_is_masked(monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_AMAZON_BUSINESS_DEFAULT", (FOLDER / "connection.json").read_text())

    config = AmazonBusinessHook().config

    assert {config.client_secret, config.refresh_token} == SECRETS
    assert redact(f"{config.client_secret} {config.refresh_token}") == "*** ***"
