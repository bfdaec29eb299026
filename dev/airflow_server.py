"""A real Airflow 3 on this machine: API server, scheduler, DAG processor and triggerer, in a temporary home."""

from __future__ import annotations

import contextlib
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
        self._processes: list[subprocess.Popen[bytes]] = []
        self._session = requests.Session()
        # SQLite answers "database is locked" now and then while everything starts at once.
        again = Retry(total=5, backoff_factor=0.5, status_forcelist=[500], allowed_methods=None)
        self._session.mount("http://", HTTPAdapter(max_retries=again))

    def __enter__(self) -> Self:
        self.home.mkdir(parents=True, exist_ok=True)
        try:
            self._launch()
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
        for number in (signal.SIGTERM, signal.SIGKILL):
            for process in self._processes:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, number)
            deadline = time.monotonic() + STOP_SECONDS
            while any(map(_group_alive, self._processes)) and time.monotonic() < deadline:
                time.sleep(0.1)
        for process in self._processes:
            process.wait()
        self._processes.clear()

    def _launch(self) -> None:
        self._start(["standalone"], "standalone.log")

    def _start(self, arguments: list[str], log: str) -> subprocess.Popen[bytes]:
        programs = Path(sys.executable).parent
        # Standalone starts its parts by the bare name "airflow".
        path = f"{programs}{os.pathsep}{self.environment.get('PATH', '')}"
        with (self.home / log).open("ab") as output:
            # A session of its own, so that all its processes can be stopped together, and Ctrl-C here
            # reaches only this program.
            process = subprocess.Popen(
                [str(programs / "airflow"), *arguments],
                env={**self.environment, "PATH": path},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._processes.append(process)
        return process

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
        dag = self.unpause(dag_id)
        run_id: str
        if dag["timetable_summary"] in (None, "None"):
            now = datetime.now(timezone.utc).isoformat()
            made = self._request(
                "POST", f"/dags/{dag_id}/dagRuns", {"logical_date": now, "conf": dict(conf or {})}
            )
            run_id = made["dag_run_id"]
            return run_id
        while not (runs := self.get(f"/dags/{dag_id}/dagRuns")["dag_runs"]):
            if time.monotonic() > deadline:
                raise RuntimeError(f"{dag_id} did not start")
            time.sleep(0.5)
        run_id = runs[0]["dag_run_id"]
        return run_id

    def unpause(self, dag_id: str) -> dict[str, Any]:
        """Unpause a DAG, which is waited for, and return what Airflow says about it."""
        deadline = time.monotonic() + START_SECONDS
        while self._session.get(f"{self.url}/api/v2/dags/{dag_id}", timeout=30).status_code == 404:
            if time.monotonic() > deadline:
                raise RuntimeError(f"{dag_id} was not loaded: {self.get('/importErrors')}")
            time.sleep(0.5)
        dag: dict[str, Any] = self._request("PATCH", f"/dags/{dag_id}", {"is_paused": False})
        return dag

    def pause(self, dag_id: str) -> None:
        """Have no more runs of a DAG begin."""
        self._request("PATCH", f"/dags/{dag_id}", {"is_paused": True})

    def runs(self, dag_id: str) -> list[dict[str, Any]]:
        """Return all runs of a DAG."""
        found: list[dict[str, Any]] = []
        while True:
            page = self.get(f"/dags/{dag_id}/dagRuns?limit=100&offset={len(found)}&order_by=id")
            found += page["dag_runs"]
            if len(found) >= page["total_entries"]:
                return found

    def put_connection(self, conn_id: str, connection: Mapping[str, Any]) -> None:
        """Store a connection, instead of the one of that id."""
        self._session.delete(f"{self.url}/api/v2/connections/{conn_id}", timeout=30)
        self.add_connection(conn_id, connection)

    def tasks(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        """Return the task instances of a run, all pages of them."""
        found: list[dict[str, Any]] = []
        while True:
            path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances?limit=100&offset={len(found)}"
            page = self.get(path)
            found += page["task_instances"]
            if len(found) >= page["total_entries"]:
                return found

    def xcom(self, dag_id: str, run_id: str, task_id: str) -> Any:
        """Return what a task returned."""
        path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/xcomEntries/return_value?deserialize=true"
        return self.get(path)["value"]

    def log_tail(self, task: Mapping[str, Any], lines: int = 15) -> list[str]:
        """Return the end of the log of a task instance's latest try."""
        path = (
            f"/dags/{task['dag_id']}/dagRuns/{task['dag_run_id']}/taskInstances/{task['task_id']}"
            f"/logs/{task['try_number']}?map_index={task['map_index']}"
        )
        return [text for line in self.get(path)["content"] for text in _readable(line)][-lines:]

    def wait_for_run(self, dag_id: str, run_id: str, seconds: float = 300) -> str:
        """Wait for the end of a run and return its state."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            state: str = self.get(f"/dags/{dag_id}/dagRuns/{run_id}")["state"]
            if state in ("success", "failed"):
                return state
            time.sleep(0.5)
        raise RuntimeError(f"{dag_id} did not end within {seconds} s: {self.tasks(dag_id, run_id)}")

    def wait_for_states(self, dag_id: str, run_id: str, state: str, count: int, seconds: float = 300) -> None:
        """Wait until so many tasks of a run are in a state."""
        deadline = time.monotonic() + seconds
        while sum(task["state"] == state for task in self.tasks(dag_id, run_id)) < count:
            if time.monotonic() > deadline:
                raise RuntimeError(f"{dag_id}: not {count} tasks are {state}: {self.tasks(dag_id, run_id)}")
            time.sleep(0.5)

    def mark(self, dag_id: str, run_id: str, task_id: str, state: str) -> None:
        """Set a task's state, as a person does in the UI."""
        self._request("PATCH", f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}", {"new_state": state})

    def clear(self, dag_id: str, run_id: str, task_id: str) -> None:
        """Clear a task and what comes after it, whatever their state, as a person does in the UI."""
        body = {
            "dag_run_id": run_id,
            "task_ids": [task_id],
            "include_downstream": True,
            "dry_run": False,
            "only_failed": False,
        }
        self._request("POST", f"/dags/{dag_id}/clearTaskInstances", body)

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
            self._check_alive()
            if time.monotonic() > deadline:
                raise RuntimeError(f"Airflow did not start:\n{self._log_ends()}")
            time.sleep(0.5)

    def _check_alive(self) -> None:
        if any(process.poll() is not None for process in self._processes):
            raise RuntimeError(f"Airflow ended:\n{self._log_ends()}")

    def _log_ends(self) -> str:
        return "\n".join(f"{path.name}:\n{path.read_text()[-4000:]}" for path in sorted(self.home.glob("*.log")))

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


def _readable(line: str | Mapping[str, Any]) -> list[str]:
    """Return a line of a log, as Airflow's API gives it, with the exceptions that it tells of."""
    if isinstance(line, str):
        return [line]
    causes = [f"{each['exc_type']}: {each['exc_value']}" for each in line.get("error_detail") or ()]
    return [*line["event"].splitlines(), *causes]


def _group_alive(process: subprocess.Popen[bytes]) -> bool:
    process.poll()
    try:
        os.killpg(process.pid, 0)
    except ProcessLookupError:
        return False
    return True
