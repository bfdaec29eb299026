"""Airflow as large teams run it: Celery workers, two triggerers and PostgreSQL."""

from __future__ import annotations

import contextlib
import secrets
import subprocess
import threading
from collections.abc import Mapping
from pathlib import Path

import psutil

from airflow_provider_amzbiz.demo.airflow_server import AirflowServer
from dev.postgres import PostgresServer
from dev.redis_server import RedisServer

_WATCH_SECONDS = 1.0
_PARTS: dict[str, list[str]] = {
    "api-server": ["api-server"],
    "scheduler": ["scheduler"],
    "dag-processor": ["dag-processor"],
    "triggerer-1": ["triggerer", "--skip-serve-logs"],
    "triggerer-2": ["triggerer", "--skip-serve-logs"],
    "worker-1": ["celery", "worker", "--celery-hostname", "one@%h", "--skip-serve-logs", "--without-mingle"],
    "worker-2": ["celery", "worker", "--celery-hostname", "two@%h", "--skip-serve-logs", "--without-mingle"],
}
PARTS = tuple(_PARTS)


class AirflowCluster(AirflowServer):
    """Scheduler, API server, DAG processor, two triggerers and two Celery workers, on PostgreSQL and Redis.

    A part that exits is restarted, as systemd or Kubernetes would do.

    :param home: folder for AIRFLOW_HOME; the caller removes it.
    :param dags: the DAG folder.
    :param postgres: a running server.
    :param database_port: the port that Airflow connects to, such as that of a proxy; by default the server's own.
    :param settings: more environment variables.
    """

    def __init__(
        self,
        home: Path,
        dags: Path,
        postgres: PostgresServer,
        *,
        database_port: int | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self._redis = RedisServer()
        database = postgres.url(database_port)
        super().__init__(
            home,
            dags,
            {
                "AIRFLOW__CORE__EXECUTOR": "CeleryExecutor",
                "AIRFLOW__CORE__PARALLELISM": "32",
                "AIRFLOW__CORE__FERNET_KEY": _fernet_key(),
                "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_hex(32),
                "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": database,
                "AIRFLOW__CELERY__RESULT_BACKEND": f"db+{database}",
                "AIRFLOW__CELERY__BROKER_URL": f"redis://127.0.0.1:{self._redis.port}/0",
                "AIRFLOW__CELERY__WORKER_CONCURRENCY": "3",
                "AIRFLOW__CELERY__WORKER_PREFETCH_MULTIPLIER": "1",
                # Shorter than the defaults, so that no test waits for minutes.
                "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_SEC": "3",
                "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "20",
                "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "5",
                "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT": "60",
                "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT_CHECK_INTERVAL": "10",
                "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "15",
                **(settings or {}),
            },
        )
        self.fernet_key = self.environment["AIRFLOW__CORE__FERNET_KEY"]
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._stay_down: set[str] = set()
        self._stopping = threading.Event()
        self._lock = threading.Lock()

    def stop(self) -> None:
        """Stop everything."""
        self._stopping.set()
        with self._lock:
            super().stop()
        self._redis.stop()

    def kill(self, part: str, *, stay_down: bool = False) -> None:
        """Kill a part and all its child processes by SIGKILL.

        :param part: one of :data:`PARTS`.
        :param stay_down: whether it stays down until :meth:`revive`.
        """
        with self._lock:
            if stay_down:
                self._stay_down.add(part)
            process = psutil.Process(self._running[part].pid)
            for each in [*process.children(recursive=True), process]:
                with contextlib.suppress(psutil.NoSuchProcess):
                    each.kill()

    def revive(self) -> None:
        """Restart the parts that were to stay down."""
        self._stay_down.clear()

    def part_of(self, pid: int) -> str:
        """Return the part in which a process runs."""
        above = [pid, *(each.pid for each in psutil.Process(pid).parents())]
        with self._lock:
            return next(part for part, process in self._running.items() if process.pid in above)

    def processes(self, part: str) -> list[psutil.Process]:
        """Return a part's process and all its child processes."""
        with self._lock:
            process = psutil.Process(self._running[part].pid)
        return [process, *process.children(recursive=True)]

    def _launch(self) -> None:
        self._redis.start()
        self._migrate()
        for part in _PARTS:
            self._run(part)
        threading.Thread(target=self._watch, name="airflow-cluster", daemon=True).start()

    def _run(self, part: str) -> None:
        if part in self._running:
            # The process id may be reused by another process.
            self._processes.remove(self._running[part])
        self._running[part] = self._start(_PARTS[part], f"{part}.log")

    def _watch(self) -> None:
        """Restart parts that have exited."""
        while not self._stopping.wait(_WATCH_SECONDS):
            with self._lock:
                for part, process in list(self._running.items()):
                    if process.poll() is not None and part not in self._stay_down and not self._stopping.is_set():
                        self._run(part)

    def _has_ended(self) -> bool:
        # A part that exits is restarted.
        return False


def _fernet_key() -> str:
    from cryptography.fernet import Fernet

    return Fernet.generate_key().decode()
