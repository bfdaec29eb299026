"""The demo succeeds, and nothing that it writes contains a secret."""

from __future__ import annotations

import configparser
import sqlite3
from contextlib import closing

import airflow
import pytest

from airflow_provider_amzbiz.demo.run import run_examples
from airflow_provider_amzbiz.demo.stage import stage
from dev.leaks import TriggerRows, files, leaks, secrets_of

pytestmark = [
    pytest.mark.skipif(airflow.__version__.startswith("2"), reason="the demo needs Airflow 3"),
    pytest.mark.timeout(600),
]


def query(home, statement):
    try:
        with closing(sqlite3.connect(f"file:{home}/airflow.db?mode=ro", uri=True, timeout=5)) as database:
            return database.execute(statement).fetchall()
    except sqlite3.OperationalError:
        # While Airflow creates its tables, they may be missing or locked.
        return []


def everything_written(home):
    """Yield every file of Airflow's home and every row of its database except the connections, with its name."""
    yield from files(home)
    for (table,) in query(home, "SELECT name FROM sqlite_master WHERE type = 'table'"):
        if table != "connection":
            for row in query(home, f'SELECT * FROM "{table}"'):
                yield table, " ".join(map(str, row))


def fernet_key(home):
    config = configparser.RawConfigParser(strict=False)
    config.read(home / "airflow.cfg")
    return config.get("core", "fernet_key")


@pytest.mark.slow
def test_the_demo_succeeds_and_leaves_no_secret_behind(tmp_path, capfd):
    home = tmp_path / "airflow"
    triggers = TriggerRows(lambda: query(home, "SELECT classpath, kwargs FROM trigger"))
    triggers.start()
    try:
        with stage(tmp_path, logging_level="DEBUG") as on:
            result = run_examples(on, tmp_path, print)
            secrets = [on.s3.secret_key, *secrets_of(on.sandbox)]
    finally:
        triggers.stop()

    assert result.succeeded, result.states
    assert len(result.objects) == 4
    # Three mornings, after the schedule's own run, and one of them repeated.
    assert [bool(each["landed"]) for each in result.feed[1:]] == [True, True, True, False]
    assert result.feed[-1]["already_delivered"] > 0
    rows = triggers.decrypted(fernet_key(home))
    assert any("ReportStatusTrigger" in path and "report_id" in kwargs for path, kwargs in rows)
    written = list(everything_written(home))
    # The search covered the places where a secret could be.
    assert any(where == "xcom" and result.objects[0]["sha256"] in text for where, text in written)
    assert any("attempt=1.log" in where and "Created report" in text for where, text in written)
    assert any(where == "rendered_task_instance_fields" for where, _ in written)
    assert len(secrets) >= 4
    texts = [*written, *rows, ("output", "".join(capfd.readouterr()))]
    assert leaks(texts, secrets) == []


def test_a_planted_secret_is_found(tmp_path):
    (tmp_path / "task.log").write_text("the token is Atza|abc")

    assert leaks(everything_written(tmp_path), []) == [(str(tmp_path / "task.log"), "Atza|")]


def test_a_planted_token_is_found_in_a_url(tmp_path):
    (tmp_path / "task.log").write_text("https://host/?token=a%2Fb%3D")

    assert leaks(everything_written(tmp_path), ["a/b="]) == [(str(tmp_path / "task.log"), "a%2Fb%3D")]
