"""Where the example DAGs run on this machine: a real Airflow, the API's sandbox, and a real S3 server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

from airflow_provider_amzbiz.demo.airflow_server import AirflowServer
from airflow_provider_amzbiz.demo.s3_server import S3Server
from airflow_provider_amzbiz.demo.shipped_files import shipped_file
from airflow_provider_amzbiz.sandbox import Company, Sandbox

BUCKET = "amazon-business"
# Sandbox seconds per real second: this shortens the API's waits, not Airflow's.
TIME_SCALE = 2.0
# Days for which the sandbox's company has ordered already.
HISTORY = timedelta(days=12)
# Those that the other examples ask for by default.
_EXAMPLE_INVOICES = ("1111-2222-3333", "1111-2222-4444", "1111-2222-5555")
_MARKETPLACES = ("ATVPDKIKX0DER", "A1PA6795UKMFR9", "A1VC38T7YXB528")


@dataclass
class Stage:
    """Airflow with the connections that the examples need, the API, and the bucket."""

    airflow: AirflowServer
    sandbox: Sandbox
    s3: S3Server

    @property
    def company(self) -> Company:
        """The company whose invoices the sandbox has."""
        company = self.sandbox.company
        if company is None:
            raise AssertionError("the stage's sandbox has a company")
        return company


def company() -> Company:
    """Return a small company that has late, consolidated and credited invoices in the next two days, too."""
    start = datetime.now(timezone.utc) - HISTORY
    return Company(seed=9, orders=12, days=HISTORY.days + 2, start=start, marketplaces=_MARKETPLACES)


@contextmanager
def stage(
    folder: Path,
    *,
    dags: Path | None = None,
    port: int = 0,
    statsd: tuple[str, int] | None = None,
    logging_level: str = "INFO",
) -> Iterator[Stage]:
    """Start everything; leaving the context stops it.

    :param folder: for Airflow's home and all that its tasks write; the caller removes it.
    :param dags: a folder of DAGs to load besides the examples.
    :param port: of Airflow's UI; 0 takes a free one.
    :param statsd: host and port of the StatsD server that gets Airflow's metrics; None sends none.
    :param logging_level: of Airflow's logs.
    """
    examples = shipped_file("example_dags")
    temporary = folder / "tmp"
    temporary.mkdir()
    settings = {
        "AIRFLOW__LOGGING__LOGGING_LEVEL": logging_level,
        "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": _bundles({"examples": examples, "yours": dags}),
        # On a busy machine, Airflow itself loses a task now and then.
        "AIRFLOW__CORE__DEFAULT_TASK_RETRIES": "2",
        "AIRFLOW__CORE__DEFAULT_TASK_RETRY_DELAY": "2",
        # Some examples have a database there.
        "TMPDIR": str(temporary),
        # Neither an installed package nor a user's folder gets a __pycache__.
        "PYTHONDONTWRITEBYTECODE": "1",
        **(_metrics(*statsd) if statsd else {}),
    }
    with (
        Sandbox(
            time_scale=TIME_SCALE, region="any", company=company(), known_invoices=_EXAMPLE_INVOICES
        ) as sandbox,
        S3Server() as s3,
        AirflowServer(folder / "airflow", examples, settings, port=port) as airflow,
    ):
        s3.make_bucket(BUCKET)
        # With a port, so that the test button of Airflow's UI works; see get_provider_info.
        for conn_id in ("amazon_business_default", "amazon_business_na", "amazon_business_eu"):
            airflow.add_connection(conn_id, {**sandbox.connection, "port": 0})
        airflow.add_connection("aws_default", s3.airflow_connection)
        yield Stage(airflow, sandbox, s3)


def _metrics(host: str, port: int) -> dict[str, str]:
    return {
        "AIRFLOW__METRICS__STATSD_ON": "True",
        "AIRFLOW__METRICS__STATSD_HOST": host,
        "AIRFLOW__METRICS__STATSD_PORT": str(port),
    }


def _bundles(folders: dict[str, Path | None]) -> str:
    """Return Airflow's setting for several DAG folders, by name; those that are None are left out."""
    return json.dumps(
        [
            {
                "name": name,
                "classpath": "airflow.dag_processing.bundles.local.LocalDagBundle",
                "kwargs": {"path": str(folder)},
            }
            for name, folder in folders.items()
            if folder
        ]
    )
