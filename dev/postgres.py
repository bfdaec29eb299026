"""A PostgreSQL server on this machine, from Debian's package, for Airflow's metadata."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from airflow_provider_amzbiz.demo.airflow_server import free_port
from airflow_provider_amzbiz.demo.server import Server
from airflow_provider_amzbiz.demo.waiting import wait_until

# PostgreSQL refuses to run as root. The package creates this user, who owns the server's files then.
_USER = "postgres"
_START_SECONDS = 60
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "max_connections": "300",
    # Only a crash of the machine would lose data, not one of the server.
    "fsync": "off",
}


class PostgresServer(Server):
    """PostgreSQL on a free port, in a temporary folder, with the database ``airflow``."""

    def __init__(self) -> None:
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    def _boot(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="postgres-"))
        if os.getuid() == 0:
            shutil.chown(self._folder, _USER)
        self._run("initdb", "--auth=trust", f"--username={_USER}", "-D", str(self._data))
        self._start()
        self._run("createdb", *self._address, "airflow")

    def url(self, port: int | None = None) -> str:
        """Return the database's URL for SQLAlchemy; ``port`` may be that of a proxy."""
        return f"postgresql+psycopg2://{_USER}@127.0.0.1:{port or self.port}/airflow"

    def restart(self) -> None:
        """Break all connections and start again, as after a crash."""
        self._end(signal.SIGQUIT)
        self._start()

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        """Return the rows of a query; none while the server is down."""
        import psycopg2

        try:
            with closing(self._connect()) as connection, connection.cursor() as cursor:
                cursor.execute(statement)
                rows: list[tuple[Any, ...]] = cursor.fetchall()
                return rows
        except psycopg2.Error:
            return []

    def execute(self, statement: str) -> None:
        """Execute a statement."""
        with closing(self._connect()) as connection, connection, connection.cursor() as cursor:
            cursor.execute(statement)

    def _connect(self) -> Any:
        import psycopg2

        return psycopg2.connect(self.url().replace("+psycopg2", ""))

    def rows(self) -> Iterator[tuple[str, str]]:
        """Return every row as text, with the name of its table."""
        table = "before all tables"
        for line in self._run("pg_dump", *self._address, "--inserts", "airflow").splitlines():
            # A value may have several lines, so a line that begins no row continues the one before.
            if found := re.match(r"INSERT INTO public\.(\w+) VALUES", line):
                table = found[1]
            yield table, line

    @property
    def _data(self) -> Path:
        return self._folder / "data"

    @property
    def _address(self) -> list[str]:
        return ["--host=127.0.0.1", f"--port={self.port}", f"--username={_USER}"]

    def _start(self) -> None:
        settings = {**_SETTINGS, "port": str(self.port), "unix_socket_directories": str(self._folder)}
        options = [f"--{name}={value}" for name, value in settings.items()]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                _command("postgres", "-D", str(self._data), *options),
                cwd=self._folder,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        process, is_ready = self._process, _command("pg_isready", *self._address)
        wait_until(
            lambda: not subprocess.run(is_ready, capture_output=True, check=False).returncode,
            _START_SECONDS,
            lambda: f"PostgreSQL did not start:\n{(self._folder / 'log').read_text()[-2000:]}",
            ended=lambda: process.poll() is not None,
            pause=0.1,
        )

    def stop(self) -> None:
        """End the server, and remove its files."""
        self._end(signal.SIGQUIT)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _end(self, number: signal.Signals) -> None:
        if self._process:
            self._process.send_signal(number)
            self._process.wait()
        self._process = None

    def _run(self, program: str, *arguments: str) -> str:
        done = subprocess.run(_command(program, *arguments), cwd=self._folder, capture_output=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{program} failed: {done.stderr.decode(errors='replace')[-2000:]}")
        return done.stdout.decode()


def _command(program: str, *arguments: str) -> list[str]:
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{program}"))
    if not found:
        raise RuntimeError(f"There is no {program}; install Debian's package postgresql")
    as_owner = ["setpriv", f"--reuid={_USER}", f"--regid={_USER}", "--clear-groups"] if os.getuid() == 0 else []
    return [*as_owner, str(found[-1]), *arguments]
