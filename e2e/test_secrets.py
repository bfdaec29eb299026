"""That nothing which all other tests made Airflow write holds a secret."""

from __future__ import annotations

import pytest

from dev.leaks import files, leaks

pytestmark = [pytest.mark.last, pytest.mark.timeout(900)]


def everything_written(airflow, postgres, trigger_rows):
    """Return what is in files, in tables other than that of connections, and was in triggers."""
    yield from files(airflow.home)
    yield from ((table, row) for table, row in postgres.rows() if table != "connection")
    yield from trigger_rows.decrypted(airflow.fernet_key)


def test_nothing_that_was_written_holds_a_secret(airflow, postgres, trigger_rows, secrets):
    written = list(everything_written(airflow, postgres, trigger_rows))

    # What is looked for is looked for in the right places.
    places = {where for where, _ in written}
    assert {"xcom", "rendered_task_instance_fields", "task_instance", "asset_event", "log"} <= places
    assert any(where.endswith("lineage.jsonl") for where in places)
    assert any("ReportStatusTrigger" in where for where in places)
    assert any("attempt=1.log" in where and "Created report" in text for where, text in written)
    assert len(secrets) > 20
    assert leaks(written, secrets) == []


def test_a_planted_secret_is_found(airflow, postgres, trigger_rows):
    log = airflow.home / "logs" / "planted.log"
    log.write_text("a token: planted-in-a-log")
    postgres.execute("INSERT INTO variable (key, val) VALUES ('planted', 'planted-in-a-table')")
    try:
        found = leaks(
            everything_written(airflow, postgres, trigger_rows), ["planted-in-a-log", "planted-in-a-table"]
        )
    finally:
        log.unlink()
        postgres.execute("DELETE FROM variable WHERE key = 'planted'")

    assert sorted(found) == [(str(log), "planted-in-a"), ("variable", "planted-in-a")]
