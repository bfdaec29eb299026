"""The search for secrets, which the fixture ``secrets`` runs at the end, finds a planted one."""

from __future__ import annotations

import pytest

from dev.airflow_cluster import AirflowCluster
from dev.leaks import TriggerRows, leaks
from dev.postgres import PostgresServer
from e2e.pipelines import everything_written

pytestmark = pytest.mark.timeout(900)


def test_a_planted_secret_is_found(
    airflow: AirflowCluster, postgres: PostgresServer, trigger_rows: TriggerRows
) -> None:
    log = airflow.home / "logs" / "planted.log"
    log.write_text("a token: planted-in-a-log")
    row = "('planted', 'planted-in-a-table', false)"
    postgres.execute(f"INSERT INTO variable (key, val, is_encrypted) VALUES {row}")
    try:
        found = leaks(
            everything_written(airflow, postgres, trigger_rows), ["planted-in-a-log", "planted-in-a-table"]
        )
    finally:
        log.unlink()
        postgres.execute("DELETE FROM variable WHERE key = 'planted'")

    assert sorted(found) == [(str(log), "planted-in-a"), ("variable", "planted-in-a")]
