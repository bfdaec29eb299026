"""An HTTP server that sends exactly the given bytes, whether they are HTTP or not."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from tests.documents.scripted_server import SECRET, Document

Reply = Callable[[dict[str, str]], Iterable[bytes]]


class RawHost:
    """Responds to each request, on a new connection, with the bytes of the next reply, and repeats the last one.

    A reply gets the request's headers, in lower case, and gives pieces of bytes; then the connection is closed.
    """

    def __init__(self, *replies: Reply | bytes, certificate: Path | None = None) -> None:
        self.replies = list(replies)
        self.requests: list[dict[str, str]] = []
        self.gone = threading.Event()
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._tls: ssl.SSLContext | None = None
        if certificate:
            self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._tls.load_cert_chain(certificate)
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> RawHost:
        return self

    def __exit__(self, *_: object) -> None:
        self.gone.set()
        self._socket.close()

    def fetch(self) -> Document:
        """What the operator passes as ``fetch_document``."""
        scheme = "https" if self._tls else "http"
        return Document(f"{scheme}://127.0.0.1:{self._socket.getsockname()[1]}/d?X-Amz-Signature={SECRET}", None)

    def silent(self, seconds: float = 60.0) -> bytes:
        """Wait until the test is over."""
        self.gone.wait(seconds)
        return b""

    def _accept(self) -> None:
        while not self.gone.is_set():
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            wire = self._tls.wrap_socket(connection, server_side=True) if self._tls else connection
            file = stack.enter_context(stack.enter_context(wire).makefile("rb"))
            lines = iter(lambda: file.readline().strip(), b"")
            pairs = (line.decode().split(": ", 1) for line in list(lines)[1:])
            headers = {name.lower(): value for name, value in pairs}
            self.requests.append(headers)
            reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
            for piece in [reply] if isinstance(reply, bytes) else reply(headers):
                wire.sendall(piece)


def response(status: int, body: bytes = b"", **headers: object) -> bytes:
    """Return a response with the headers ``ETag`` and those given."""
    lines = [f"HTTP/1.1 {status} Word", 'ETag: "e"']
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items() if value is not None]
    return "\r\n".join([*lines, "", ""]).encode() + body


def chunks(content: bytes, size: int) -> bytes:
    """Return chunks, without the last one that ends them."""
    pieces = [content[at : at + size] for at in range(0, len(content), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)


def dripped(data: bytes, seconds: float) -> Iterable[bytes]:
    """Give single bytes with pauses."""
    for at in range(len(data)):
        yield data[at : at + 1]
        time.sleep(seconds)


TEXT = b"".join(b"%d\tpaper\n" % number for number in range(40))
LENGTH = len(TEXT)
CHUNKED = {"Transfer_Encoding": "chunked"}
WHOLE_IN_CHUNKS = response(200, chunks(TEXT, 50) + b"0\r\n\r\n", **CHUNKED)


def part(headers, end=LENGTH, total: object = LENGTH, **more):
    """Return the right response to a request for a range."""
    start = int(headers["range"].removeprefix("bytes=").removesuffix("-"))
    if start >= LENGTH:
        return response(416, Content_Range=f"bytes */{LENGTH}", Content_Length=0)
    body = TEXT[start:end]
    return response(206, body, Content_Range=f"bytes {start}-{start + len(body) - 1}/{total}",
                    Content_Length=len(body), **more)  # fmt: skip
