"""The servers of the transfer benchmark: fast ones, so that the clients are what is measured."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Self

from dev.airflow_server import free_port


class FileServer:
    """Serves one file by ``sendfile``, at every path."""

    def __init__(self, path: Path) -> None:
        size = path.stat().st_size

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Length", str(size))
                self.send_header("ETag", '"one"')
                self.send_header("Content-Type", "text/plain")
                self.end_headers()
                self.wfile.flush()
                with path.open("rb") as file:
                    self.connection.sendfile(file)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/document"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()


class Gateway:
    """JuiceFS's S3 gateway on a folder: the fastest real one of those that were tried.

    It keeps no checksums and knows no conditional writes, so that it serves for speed only.
    """

    bucket = "bench"

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.access_key, self.secret_key = secrets.token_hex(10), secrets.token_hex(20)
        self.port = free_port()
        self.endpoint = f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        juicefs = str(Path(sys.executable).parent / "juicefs")
        database = f"sqlite3://{self._folder / 'meta.db'}"
        (self._folder / "blocks").mkdir()
        subprocess.run(
            [
                juicefs,
                "format",
                "--storage",
                "file",
                "--bucket",
                f"{self._folder / 'blocks'}/",
                database,
                self.bucket,
            ],
            check=True,
            capture_output=True,
        )
        environment = {
            **os.environ,
            "MINIO_ROOT_USER": self.access_key,
            "MINIO_ROOT_PASSWORD": self.secret_key,
            "HOME": str(self._folder),
        }
        self._process = subprocess.Popen(
            [
                juicefs, "gateway", "--no-banner", "--no-usage-report", "--log", str(self._folder / "gateway.log"),
                "--cache-dir", str(self._folder / "cache"), database, f"127.0.0.1:{self.port}",
            ],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip
        deadline = time.monotonic() + 60
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    break
            if time.monotonic() > deadline or self._process.poll() is not None:
                raise RuntimeError("The gateway did not start")
            time.sleep(0.2)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.killpg(self._process.pid, signal.SIGTERM)
        self._process.wait()


class DelayedServer:
    """Passes connections on to a port of this machine; what comes back comes later.

    :param delay: seconds.
    """

    def __init__(self, port: int, delay: float) -> None:
        self._target = port
        self._delay = delay
        self.port = free_port()
        self.endpoint = f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        # A process of its own: it would have to share the interpreter with the file server otherwise.
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.servers", str(self.port), str(self._target), str(self._delay)],
            start_new_session=True,
        )
        deadline = time.monotonic() + 30
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return self
            if time.monotonic() > deadline:
                raise RuntimeError("The delaying server did not start")
            time.sleep(0.1)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.killpg(self._process.pid, signal.SIGTERM)
        self._process.wait()


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay: float) -> None:
    loop = asyncio.get_running_loop()
    try:
        while data := await reader.read(1 << 20):
            if delay:
                loop.call_later(delay, writer.write, data)
            else:
                writer.write(data)
                await writer.drain()
    except ConnectionError:
        pass
    finally:
        loop.call_later(delay + 0.01, writer.close)


async def _serve(port: int, target: int, delay: float) -> None:
    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", target, limit=1 << 21)
        await asyncio.gather(_pass_on(reader, back, 0), _pass_on(there, writer, delay))

    server = await asyncio.start_server(connected, "127.0.0.1", port, limit=1 << 21)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])))
