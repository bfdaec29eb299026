"""The servers of the transfer benchmark, fast enough that the clients are what is measured.

``python -m bench.servers CERTIFICATE source FILE`` or ``... sink SECONDS`` prints its port and serves until it is
stopped. Each is a process of its own, because otherwise they would share an interpreter.
"""

from __future__ import annotations

import os
import secrets
import signal
import socket
import ssl
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import parse_qs, urlsplit

from airflow_provider_amzbiz.demo.airflow_server import free_port
from airflow_provider_amzbiz.demo.waiting import wait_until

_BLOCK = 1 << 20
# Linux's default TCP window: no more arrives in one round trip.
_WINDOW = 2 << 20


class Server:
    """One of this module's servers, with TLS.

    :param certificate: a file with the certificate and its key.
    :param role: ``source`` and a file, or ``sink`` and the seconds of a round trip to it.
    """

    def __init__(self, certificate: Path, *role: str) -> None:
        self._command = [sys.executable, "-m", "bench.servers", str(certificate), *role]

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(self._command, stdout=subprocess.PIPE, text=True, start_new_session=True)
        assert self._process.stdout
        self.url = f"https://127.0.0.1:{int(self._process.stdout.readline())}"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _stop(self._process)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass


class _Source(_Handler):
    """Sends one file, at every path."""

    path_of_file: Path

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(self.path_of_file.stat().st_size))
        self.send_header("ETag", '"one"')
        self.send_header("Content-Type", "text/plain")
        self.end_headers()
        with self.path_of_file.open("rb") as file:
            while block := file.read(_BLOCK):
                self.wfile.write(block)


class _Sink(_Handler):
    """Responds to uploads as S3 does, and discards them."""

    seconds: float
    _arrived = 0
    _next_window = 0.0

    def do_PUT(self) -> None:
        self._discard()
        self._respond({"ETag": '"one"'})

    def do_POST(self) -> None:
        self._discard()
        query = parse_qs(urlsplit(self.path).query, keep_blank_values=True)
        bucket, _, key = urlsplit(self.path).path.lstrip("/").partition("/")
        kind = "InitiateMultipartUploadResult" if "uploads" in query else "CompleteMultipartUploadResult"
        self._respond(
            {"Content-Type": "application/xml"},
            f'<{kind} xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Bucket>{bucket}</Bucket><Key>{key}</Key>'
            f'<UploadId>one</UploadId><ETag>"one"</ETag></{kind}>',
        )

    def _discard(self) -> None:
        if self.headers.get("Transfer-Encoding") == "chunked":
            while size := int(self.rfile.readline().split(b";")[0], 16):
                self._read(size + 2)
            while self.rfile.readline().strip():
                pass
        else:
            self._read(int(self.headers.get("Content-Length", 0)))

    def _read(self, count: int) -> None:
        buffer = memoryview(bytearray(min(count, _BLOCK)))
        while count:
            read = self.rfile.readinto(buffer[:count])
            if not read:
                raise ConnectionError("The client has disconnected")
            count -= read
            self._arrived += read
            if self.seconds and self._arrived >= _WINDOW:
                time.sleep(max(0.0, self._next_window - time.monotonic()))
                self._arrived, self._next_window = 0, time.monotonic() + self.seconds

    def _respond(self, headers: dict[str, str], body: str = "") -> None:
        time.sleep(self.seconds)
        self.send_response(200)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body.encode())


class _TlsServer(ThreadingHTTPServer):
    def __init__(self, handler: type[_Handler], certificate: str) -> None:
        super().__init__(("127.0.0.1", 0), handler)
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificate)

    def finish_request(self, request: socket.socket, client_address: object) -> None:  # type: ignore[override]
        request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self._context.wrap_socket(request, server_side=True) as secured:
            super().finish_request(secured, client_address)

    def handle_error(self, *_: object) -> None:
        """Log nothing: clients leave connections open when they end."""


class Gateway:
    """JuiceFS's S3 gateway on a folder: the fastest real store we measured.

    It stores no checksums and ignores conditional writes, so it is of use for speed only.
    """

    bucket = "bench"

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.access_key, self.secret_key = secrets.token_hex(10), secrets.token_hex(20)
        port = free_port()
        self._address = f"127.0.0.1:{port}"
        self.url = f"http://{self._address}"

    def __enter__(self) -> Self:
        juicefs = str(Path(sys.executable).parent / "juicefs")
        database = f"sqlite3://{self._folder / 'meta.db'}"
        blocks = self._folder / "blocks"
        blocks.mkdir()
        subprocess.run(
            [
                juicefs, "format", "--storage", "file", "--bucket", f"{blocks}/", "--trash-days", "0", database,
                self.bucket,
            ],
            check=True,
            capture_output=True,
        )  # fmt: skip
        environment = {
            **os.environ,
            "MINIO_ROOT_USER": self.access_key,
            "MINIO_ROOT_PASSWORD": self.secret_key,
            "HOME": str(self._folder),
        }
        self._process = subprocess.Popen(
            [
                juicefs, "gateway", "--no-banner", "--no-usage-report", "--log", str(self._folder / "gateway.log"),
                "--cache-dir", str(self._folder / "cache"), database, self._address,
            ],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip
        process = self._process
        wait_until(
            self._responds,
            60,
            lambda: "The gateway did not start",
            ended=lambda: process.poll() is not None,
            pause=0.2,
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _stop(self._process)

    def _responds(self) -> bool:
        host, port = self._address.split(":")
        with socket.socket() as probe:
            return probe.connect_ex((host, int(port))) == 0


def _stop(process: subprocess.Popen[str] | subprocess.Popen[bytes]) -> None:
    os.killpg(process.pid, signal.SIGTERM)
    process.wait()


def main() -> None:
    """Serve."""
    certificate, role, argument = sys.argv[1:]
    handler: type[_Handler] = _Source
    if role == "sink":
        handler, _Sink.seconds = _Sink, float(argument)
    else:
        _Source.path_of_file = Path(argument)
    server = _TlsServer(handler, certificate)
    print(server.server_address[1], flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
