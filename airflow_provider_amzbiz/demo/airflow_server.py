"""A real Airflow 3 on this machine: API server, scheduler, DAG processor and triggerer, in a temporary home."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import requests

from airflow_provider_amzbiz.demo.airflow_api import AirflowApi
from airflow_provider_amzbiz.demo.server import Server
from airflow_provider_amzbiz.demo.waiting import wait_until

START_SECONDS = 300
STOP_SECONDS = 5


# What ``airflow standalone`` starts, without its two log servers: those listen on all addresses of this machine,
# and on fixed ports, which another Airflow may use.
_PARTS: dict[str, list[str]] = {
    "api-server": ["api-server"],
    "scheduler": ["scheduler", "--skip-serve-logs"],
    "dag-processor": ["dag-processor"],
    "triggerer": ["triggerer", "--skip-serve-logs"],
}


class AirflowServer(Server, AirflowApi):
    """The parts of an Airflow, on a free port of 127.0.0.1; leaving the context stops it.

    :param home: folder for AIRFLOW_HOME; the caller removes it.
    :param dags: the DAG folder.
    :param settings: more environment variables.
    :param port: its port; 0 takes a free one.
    """

    def __init__(
        self, home: Path, dags: Path, settings: Mapping[str, str] | None = None, *, port: int = 0
    ) -> None:
        super().__init__(f"http://127.0.0.1:{port or free_port()}")
        self.home = home
        # The settings of the caller's own Airflow must not apply.
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
        self.environment = {**inherited, **airflow_settings(home, dags, self.url), **(settings or {})}
        self._processes: list[subprocess.Popen[bytes]] = []

    def _boot(self) -> None:
        self.home.mkdir(parents=True, exist_ok=True)
        self._launch()
        self._wait_until_healthy()
        self.log_in()

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
        self._migrate()
        for part, command in _PARTS.items():
            self._start(command, f"{part}.log")

    def _migrate(self) -> None:
        """Create the metadata database."""
        migrate = [str(Path(sys.executable).with_name("airflow")), "db", "migrate"]
        done = subprocess.run(migrate, env=self.environment, capture_output=True, check=False)
        if done.returncode:
            raise RuntimeError(f"airflow db migrate failed: {done.stderr.decode()[-2000:]}")

    def _start(self, arguments: list[str], log: str) -> subprocess.Popen[bytes]:
        programs = Path(sys.executable).parent
        # Tasks may start programs of this environment by their bare names.
        path = f"{programs}{os.pathsep}{self.environment.get('PATH', '')}"
        with (self.home / log).open("ab") as output:
            # In a session of its own, all its processes can be stopped together, and Ctrl-C does not reach them.
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

    def _wait_until_healthy(self) -> None:
        wait_until(
            self._is_healthy,
            START_SECONDS,
            lambda: f"Airflow did not start:\n{self._log_ends()}",
            ended=self._has_ended,
        )

    def _has_ended(self) -> bool:
        return any(process.poll() is not None for process in self._processes)

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
    """Return the environment of an Airflow that uses only one folder and this machine."""
    port = url.rsplit(":", 1)[1]
    return {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "True",
        "AIRFLOW__CORE__TEST_CONNECTION": "Enabled",
        # Workers are forked in advance; the default of 32 would fill a small machine.
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
    """Return a free port of 127.0.0.1."""
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
