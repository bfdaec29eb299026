"""A Redis server on this machine, from Debian's package."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from airflow_provider_amzbiz.demo.airflow_server import free_port
from airflow_provider_amzbiz.demo.server import Server
from airflow_provider_amzbiz.demo.waiting import wait_until

_START_SECONDS = 20.0


def redis_server() -> str | None:
    """Return the path of the server; None where it is not installed."""
    return shutil.which("redis-server") or shutil.which("valkey-server")


class RedisServer(Server):
    """Redis or Valkey on a free port of 127.0.0.1, in a temporary folder, for the length of a ``with`` block.

    :param settings: more settings, as on the command line without the hyphens, such as ``("requirepass", "...")``.
    :ivar port: its port, also after a restart.
    """

    def __init__(self, *settings: tuple[str, str]) -> None:
        self.port = free_port()
        self._settings = settings
        self._folder: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def _boot(self) -> None:
        self.start()

    def start(self) -> None:
        """Start the server, which has lost all that it knew.

        :raises RuntimeError: it is not installed, or does not start.
        """
        server = redis_server()
        if server is None:
            raise RuntimeError("There is no redis-server; install Debian's package redis-server")
        self._folder = self._folder or Path(tempfile.mkdtemp(prefix="redis-"))
        with (self._folder / "redis.log").open("ab") as log:
            self._process = subprocess.Popen(
                [server, *self._arguments(self._folder)], stdout=log, stderr=log, start_new_session=True
            )
        process, output = self._process, self._folder / "redis.log"
        wait_until(
            self._is_ready,
            _START_SECONDS,
            lambda: f"redis-server did not start:\n{output.read_text()[-500:]}",
            ended=lambda: process.poll() is not None,
            pause=0.05,
        )

    def _arguments(self, folder: Path) -> list[str]:
        settings = [("bind", "127.0.0.1"), ("port", str(self.port)), ("save", ""), ("dir", str(folder))]
        return [each for name, value in [*settings, *self._settings] for each in (f"--{name}", value)]

    def kill(self) -> None:
        """End the server by SIGKILL; :meth:`start` starts it again."""
        if self._process:
            self._process.kill()
            self._process.wait()
            self._process = None

    def stop(self) -> None:
        """End the server, and remove its files."""
        self.kill()
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)

    def client(self, **arguments: Any) -> Any:
        """Return a client of redis-py."""
        from redis import Redis

        return Redis("127.0.0.1", self.port, **arguments)

    def _is_ready(self) -> bool:
        from redis.exceptions import AuthenticationError, RedisError

        with self.client() as client:
            try:
                client.ping()
            except AuthenticationError:
                return True
            except RedisError:
                return False
        return True


class RedisSentinel(RedisServer):
    """A Sentinel that watches one server.

    :param name: the name under which it knows the server.
    """

    def __init__(self, name: str, watched: RedisServer) -> None:
        super().__init__()
        self._monitor = f"sentinel monitor {name} 127.0.0.1 {watched.port} 1"

    def _arguments(self, folder: Path) -> list[str]:
        # A Sentinel keeps its state in its configuration, so it needs a file.
        configuration = folder / "sentinel.conf"
        configuration.write_text(f"bind 127.0.0.1\nport {self.port}\ndir {folder}\n{self._monitor}\n")
        return [str(configuration), "--sentinel"]
