"""Airflow's REST API, as tests and the demo use it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from airflow_provider_amzbiz.demo.waiting import wait_until

LOAD_SECONDS = 180


class AirflowApi:
    """The REST API of a running Airflow.

    :param url: its address, without a path.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._session = requests.Session()
        # SQLite responds "database is locked" now and then while everything starts at once.
        retry = Retry(total=5, backoff_factor=0.5, status_forcelist=[500], allowed_methods=None)
        self._session.mount("http://", HTTPAdapter(max_retries=retry))

    def log_in(self) -> None:
        """Get a token for the calls that follow."""
        self._session.headers["Authorization"] = f"Bearer {self._token()}"

    def get(self, path: str) -> Any:
        """Return the JSON of a path below ``/api/v2``."""
        return self._request("GET", path)

    def add_connection(self, conn_id: str, connection: Mapping[str, Any]) -> None:
        """Store a connection in the metadata database, as the form of the UI does."""
        self._request("POST", "/connections", _connection_body(conn_id, connection))

    def start(self, dag_id: str, conf: Mapping[str, Any] | None = None) -> str:
        """Unpause a DAG and return the id of its run: the scheduled one, or without a schedule a triggered one."""
        dag = self.unpause(dag_id)
        if dag["timetable_summary"] in (None, "None"):
            return self.trigger(dag_id, conf)
        runs = wait_until(lambda: self.runs(dag_id), LOAD_SECONDS, lambda: f"{dag_id} did not start")
        run_id: str = runs[0]["dag_run_id"]
        return run_id

    def trigger(self, dag_id: str, conf: Mapping[str, Any] | None = None) -> str:
        """Trigger a DAG that is not paused, and return the id of the run."""
        now = datetime.now(timezone.utc).isoformat()
        created = self._request("POST", f"/dags/{dag_id}/dagRuns", {"logical_date": now, "conf": dict(conf or {})})
        run_id: str = created["dag_run_id"]
        return run_id

    def unpause(self, dag_id: str) -> dict[str, Any]:
        """Wait until a DAG is loaded, unpause it, and return its record."""
        url = f"{self.url}/api/v2/dags/{dag_id}"
        wait_until(
            lambda: self._session.get(url, timeout=30).status_code != 404,
            LOAD_SECONDS,
            lambda: f"{dag_id} was not loaded: {self.get('/importErrors')}",
        )
        dag: dict[str, Any] = self._request("PATCH", f"/dags/{dag_id}", {"is_paused": False})
        return dag

    def pause(self, dag_id: str) -> None:
        """Pause a DAG, so that no new runs begin."""
        self._request("PATCH", f"/dags/{dag_id}", {"is_paused": True})

    def runs(self, dag_id: str) -> list[dict[str, Any]]:
        """Return all runs of a DAG."""
        return self._pages(f"/dags/{dag_id}/dagRuns?order_by=id&", "dag_runs")

    def put_connection(self, conn_id: str, connection: Mapping[str, Any]) -> None:
        """Store a connection, or change the fields of an existing one; no task finds it missing meanwhile."""
        url, body = f"{self.url}/api/v2/connections/{conn_id}", _connection_body(conn_id, connection)
        response = self._session.patch(url, json=body, timeout=60)
        if response.status_code == 404:
            self.add_connection(conn_id, connection)
        else:
            response.raise_for_status()

    def tasks(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        """Return all task instances of a run."""
        return self._pages(f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances?", "task_instances")

    def xcom(self, dag_id: str, run_id: str, task_id: str) -> Any:
        """Return what a task returned."""
        path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/xcomEntries/return_value?deserialize=true"
        return self.get(path)["value"]

    def log_tail(self, task: Mapping[str, Any], lines: int = 15) -> list[str]:
        """Return the end of the log of a task instance's latest attempt."""
        path = (
            f"/dags/{task['dag_id']}/dagRuns/{task['dag_run_id']}/taskInstances/{task['task_id']}"
            f"/logs/{task['try_number']}?map_index={task['map_index']}"
        )
        return [text for line in self.get(path)["content"] for text in _readable(line)][-lines:]

    def wait_for_run(self, dag_id: str, run_id: str, seconds: float = 300) -> str:
        """Wait for the end of a run and return its state."""

        def final_state() -> str | None:
            state: str = self.get(f"/dags/{dag_id}/dagRuns/{run_id}")["state"]
            return state if state in ("success", "failed") else None

        return wait_until(
            final_state, seconds, lambda: f"{dag_id} did not end within {seconds} s: {self.tasks(dag_id, run_id)}"
        )

    def wait_for_states(self, dag_id: str, run_id: str, state: str, count: int, seconds: float = 300) -> None:
        """Wait until so many tasks of a run are in a state."""
        wait_until(
            lambda: sum(task["state"] == state for task in self.tasks(dag_id, run_id)) >= count,
            seconds,
            lambda: f"{dag_id}: not {count} tasks are {state}: {self.tasks(dag_id, run_id)}",
        )

    def mark(self, dag_id: str, run_id: str, task_id: str, state: str) -> None:
        """Set a task's state, as a user does in the UI."""
        self._request("PATCH", f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}", {"new_state": state})

    def fail_run(self, dag_id: str, run_id: str) -> None:
        """Mark a run as failed, which ends its tasks, as a user does in the UI."""
        self._request("PATCH", f"/dags/{dag_id}/dagRuns/{run_id}", {"state": "failed"})

    def clear(self, dag_id: str, run_id: str, task_id: str) -> None:
        """Clear a task and all tasks downstream, whatever their state, as a user does in the UI."""
        body = {
            "dag_run_id": run_id,
            "task_ids": [task_id],
            "include_downstream": True,
            "dry_run": False,
            "only_failed": False,
        }
        self._request("POST", f"/dags/{dag_id}/clearTaskInstances", body)

    def _pages(self, path: str, name: str) -> list[dict[str, Any]]:
        """Return the entries of all pages below a path, which ends where a parameter may follow."""
        found: list[dict[str, Any]] = []
        while True:
            page = self.get(f"{path}limit=100&offset={len(found)}")
            found += page[name]
            if len(found) >= page["total_entries"]:
                return found

    def _request(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        response = self._session.request(method, f"{self.url}/api/v2{path}", json=body, timeout=60)
        response.raise_for_status()
        return response.json()

    def _token(self) -> str:
        response = requests.get(f"{self.url}/auth/token", timeout=30)
        if not response.ok:
            response = requests.post(f"{self.url}/auth/token", json={}, timeout=30)
        response.raise_for_status()
        token: str = response.json()["access_token"]
        return token


def _connection_body(conn_id: str, connection: Mapping[str, Any]) -> dict[str, Any]:
    fields = {name: value for name, value in connection.items() if name != "extra"}
    return {"connection_id": conn_id, **fields, "extra": json.dumps(connection.get("extra", {}))}


def _readable(line: str | Mapping[str, Any]) -> list[str]:
    """Return the text of a log line of Airflow's API, with the exceptions that it contains."""
    if isinstance(line, str):
        return [line]
    causes = [f"{each['exc_type']}: {each['exc_value']}" for each in line.get("error_detail") or ()]
    return [*line["event"].splitlines(), *causes]
