"""A Prometheus on this machine, from Debian's package."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import requests
import yaml

from airflow_provider_amzbiz.demo.airflow_server import free_port
from airflow_provider_amzbiz.demo.server import Server
from airflow_provider_amzbiz.demo.waiting import wait_until

_START_SECONDS = 30.0


class Prometheus(Server):
    """Prometheus on a free port of 127.0.0.1, which reads one target and evaluates rules every second.

    :param target: port of 127.0.0.1 whose ``/metrics`` it reads.
    :param rules: a file of rules.
    :ivar url: its address.
    """

    def __init__(self, target: int, rules: Path) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self._config = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": [str(rules)],
            "scrape_configs": [{"job_name": "statsd", "static_configs": [{"targets": [f"127.0.0.1:{target}"]}]}],
        }
        self._folder: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def _boot(self) -> None:
        folder = self._folder = Path(tempfile.mkdtemp(prefix="prometheus-"))
        (folder / "prometheus.yml").write_text(yaml.safe_dump(self._config))
        options = [
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address={self.url.removeprefix('http://')}",
        ]
        with (folder / "prometheus.log").open("wb") as log:
            self._process = subprocess.Popen(["prometheus", *options], stdout=log, stderr=log)
        process = self._process
        wait_until(
            self._is_ready,
            _START_SECONDS,
            lambda: f"prometheus did not start:\n{(folder / 'prometheus.log').read_text()[-2000:]}",
            ended=lambda: process.poll() is not None,
            pause=0.1,
        )

    def stop(self) -> None:
        """End it, and remove its data."""
        if self._process:
            self._process.terminate()
            self._process.wait()
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Return the current series of an expression.

        :raises requests.HTTPError: it is not valid.
        """
        response = requests.get(f"{self.url}/api/v1/query", params={"query": expression}, timeout=10)
        response.raise_for_status()
        result: list[dict[str, Any]] = response.json()["data"]["result"]
        return result

    def firing(self) -> dict[str, dict[str, Any]]:
        """Return the alerts that fire, by name."""
        alerts = requests.get(f"{self.url}/api/v1/alerts", timeout=10).json()["data"]["alerts"]
        return {each["labels"]["alertname"]: each for each in alerts if each["state"] == "firing"}

    def _is_ready(self) -> bool:
        try:
            return requests.get(f"{self.url}/-/ready", timeout=2).ok
        except requests.RequestException:
            return False
