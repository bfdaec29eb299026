"""A real Airflow 3 on this machine: API server, scheduler, DAG processor and triggerer, in a temporary home."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import requests
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

START_SECONDS = 180
STOP_SECONDS = 5


class AirflowServer:
    """``airflow standalone`` on a free port of 127.0.0.1; stopped and waited for on leaving.

    :param home: folder for AIRFLOW_HOME; the caller removes it.
    :param dags: the DAG folder.
    :param settings: more environment variables.
    """

    def __init__(self, home: Path, dags: Path, settings: Mapping[str, str] | None = None) -> None:
        self.home = home
        self.url = f"http://127.0.0.1:{free_port()}"
        # Not what the caller's own Airflow is set to.
        ours = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
        self.environment = {**ours, **airflow_settings(home, dags, self.url), **(settings or {})}
        self.log = home / "standalone.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._session = requests.Session()
        # SQLite answers "database is locked" now and then while everything starts at once.
        again = Retry(total=5, backoff_factor=0.5, status_forcelist=[500], allowed_methods=None)
        self._session.mount("http://", HTTPAdapter(max_retries=again))

    def __enter__(self) -> Self:
        programs = Path(sys.executable).parent
        # Standalone starts its parts by the bare name "airflow".
        path = f"{programs}{os.pathsep}{self.environment.get('PATH', '')}"
        self.home.mkdir(parents=True, exist_ok=True)
        with self.log.open("wb") as log:
            # A session of its own, so that all its processes can be stopped together, and Ctrl-C here
            # reaches only this program.
            self._process = subprocess.Popen(
                [str(programs / "airflow"), "standalone"],
                env={**self.environment, "PATH": path},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            self._wait_until_healthy()
            self._session.headers["Authorization"] = f"Bearer {self._token()}"
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """End all processes of this Airflow."""
        if self._process is None:
            return
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self._process.pid, number)
            except ProcessLookupError:
                break
            deadline = time.monotonic() + STOP_SECONDS
            while _group_alive(self._process) and time.monotonic() < deadline:
                time.sleep(0.1)
        self._process.wait()
        self._process = None

    def get(self, path: str) -> Any:
        """Return the JSON that Airflow's REST API answers below ``/api/v2``."""
        return self._request("GET", path)

    def add_connection(self, conn_id: str, connection: Mapping[str, Any]) -> None:
        """Store a connection in the metadata database, as the form of the UI does."""
        fields = {name: value for name, value in connection.items() if name != "extra"}
        body = {"connection_id": conn_id, **fields, "extra": json.dumps(connection.get("extra", {}))}
        self._request("POST", "/connections", body)

    def start(self, dag_id: str, conf: Mapping[str, Any] | None = None) -> str:
        """Unpause a DAG and return the id of its run: the one its schedule makes, or else a triggered one."""
        deadline = time.monotonic() + START_SECONDS
        while self._session.get(f"{self.url}/api/v2/dags/{dag_id}", timeout=30).status_code == 404:
            if time.monotonic() > deadline:
                raise RuntimeError(f"{dag_id} was not loaded: {self.get('/importErrors')}")
            time.sleep(0.5)
        dag = self._request("PATCH", f"/dags/{dag_id}", {"is_paused": False})
        if dag["timetable_summary"] in (None, "None"):
            now = datetime.now(timezone.utc).isoformat()
            self._request("POST", f"/dags/{dag_id}/dagRuns", {"logical_date": now, "conf": dict(conf or {})})
        while not (runs := self.get(f"/dags/{dag_id}/dagRuns")["dag_runs"]):
            if time.monotonic() > deadline:
                raise RuntimeError(f"{dag_id} did not start")
            time.sleep(0.5)
        run_id: str = runs[0]["dag_run_id"]
        return run_id

    def _request(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        answer = self._session.request(method, f"{self.url}/api/v2{path}", json=body, timeout=60)
        answer.raise_for_status()
        return answer.json()

    def _token(self) -> str:
        answer = requests.get(f"{self.url}/auth/token", timeout=30)
        if not answer.ok:
            answer = requests.post(f"{self.url}/auth/token", json={}, timeout=30)
        answer.raise_for_status()
        token: str = answer.json()["access_token"]
        return token

    def _wait_until_healthy(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not self._is_healthy():
            if self._process is None or self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"Airflow did not start:\n{self.log.read_text()[-4000:]}")
            time.sleep(0.5)

    def _is_healthy(self) -> bool:
        try:
            health = requests.get(f"{self.url}/api/v2/monitor/health", timeout=5).json()
        except (requests.RequestException, ValueError):
            return False
        parts = ("metadatabase", "scheduler", "triggerer", "dag_processor")
        return all(health.get(part, {}).get("status") == "healthy" for part in parts)


def airflow_settings(home: Path, dags: Path, url: str = "http://127.0.0.1:8080") -> dict[str, str]:
    """Return the environment of an Airflow that keeps to one folder and to this machine."""
    port = url.rsplit(":", 1)[1]
    return {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "True",
        "AIRFLOW__CORE__TEST_CONNECTION": "Enabled",
        # Each worker is forked ahead; 32 of them would fill a small machine.
        "AIRFLOW__CORE__PARALLELISM": "4",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db",
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__PORT": port,
        "AIRFLOW__API__WORKERS": "1",
        "AIRFLOW__API__BASE_URL": url,
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{url}/execution/",
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(home / "logs"),
        "AIRFLOW__SCHEDULER__SCHEDULER_HEARTBEAT_SEC": "1",
        "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "5",
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
        "NO_PROXY": "127.0.0.1,localhost",
    }


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _group_alive(process: subprocess.Popen[bytes]) -> bool:
    process.poll()
    try:
        os.killpg(process.pid, 0)
    except ProcessLookupError:
        return False
    return True
