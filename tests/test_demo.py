"""The demo, and that nothing it leaves behind holds a secret."""

from __future__ import annotations

import configparser
import sqlite3
import threading
from contextlib import closing

import airflow
import pytest
from cryptography.fernet import Fernet

from dev import demo

pytestmark = [
    pytest.mark.skipif(airflow.__version__.startswith("2"), reason="the demo's Airflow is the newest"),
    pytest.mark.timeout(400),
]


class TriggerRows(threading.Thread):
    """Collects the trigger table while it is full: its rows are gone when the waits are over."""

    def __init__(self, home):
        super().__init__(daemon=True)
        self.home = home
        self.rows = set()
        self.done = threading.Event()

    def run(self):
        while not self.done.wait(0.3):
            if (self.home / "airflow.db").exists():
                self.rows |= set(query(self.home, "SELECT classpath, kwargs FROM trigger"))

    def decrypted(self):
        config = configparser.RawConfigParser(strict=False)
        config.read(self.home / "airflow.cfg")
        fernet = Fernet(config.get("core", "fernet_key").encode())
        # Airflow leaves them readable where it cannot encrypt them.
        return [
            f"{path} {kwargs if kwargs.startswith('{') else fernet.decrypt(kwargs.encode()).decode()}"
            for path, kwargs in self.rows
        ]


def query(home, statement):
    try:
        with closing(sqlite3.connect(f"file:{home}/airflow.db?mode=ro", uri=True, timeout=5)) as database:
            return database.execute(statement).fetchall()
    except sqlite3.OperationalError:
        # While Airflow makes its tables, they may be missing or locked.
        return []


def everything_written(home):
    """Return every file of Airflow's home and every row of its database, by name; the connections excepted."""
    for path in home.rglob("*"):
        if path.is_file() and not path.name.startswith("airflow.db"):
            yield str(path), path.read_text(errors="replace")
    for (table,) in query(home, "SELECT name FROM sqlite_master WHERE type = 'table'"):
        if table != "connection":
            for row in query(home, f'SELECT * FROM "{table}"'):
                yield table, " ".join(map(str, row))


def leaks(texts, secrets):
    return [
        (where, secret[:12])
        for where, text in texts
        for secret in (*secrets, "X-Amz-Signature", "Atza|", "Atzr|")
        if secret in text
    ]


def test_the_demo_succeeds_and_leaves_no_secret_behind(tmp_path, capfd):
    home = tmp_path / "airflow"
    triggers = TriggerRows(home)
    triggers.start()
    try:
        result = demo.run(tmp_path, logging_level="DEBUG")
    finally:
        triggers.done.set()
        triggers.join()

    assert result.succeeded, result.states
    assert len(result.objects) == 4
    rows = triggers.decrypted()
    assert any("ReportStatusTrigger" in row and "report_id" in row for row in rows)
    written = list(everything_written(home))
    # What is looked for is looked for in the right places.
    assert any(where == "xcom" and result.objects[0]["sha256"] in text for where, text in written)
    assert any("attempt=1.log" in where and "Created report" in text for where, text in written)
    assert any(where == "rendered_task_instance_fields" for where, _ in written)
    assert len(result.secrets) >= 4
    texts = [*written, *(("trigger row", row) for row in rows), ("output", "".join(capfd.readouterr()))]
    assert leaks(texts, result.secrets) == []


def test_a_planted_secret_would_be_found(tmp_path):
    (tmp_path / "task.log").write_text("the token is Atza|abc")

    assert leaks(everything_written(tmp_path), []) == [(str(tmp_path / "task.log"), "Atza|")]
