"""An HTTP server that has one document and misbehaves as scripted."""

from __future__ import annotations

import gzip
import threading
from collections import deque
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SECRET = "d0cum3nts3cr3t"
EXPIRED = (
    b'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>AccessDenied</Code>'
    b"<Message>Request has expired</Message><X-Amz-Expires>300</X-Amz-Expires><RequestId>1</RequestId></Error>"
)


@dataclass
class Response:
    """The response to one request; by default the one that S3 would send.

    :ivar piece: maximum bytes of a range, sent without the total.
    :ivar cut: body bytes after which the connection is closed.
    :ivar stall: body bytes after which nothing more comes, until the client disconnects.
    """

    status: int | None = None
    body: bytes | None = None
    headers: dict[str, str | None] = field(default_factory=dict)
    ignore_range: bool = False
    piece: int | None = None
    cut: int | None = None
    stall: int | None = None
    chunked: bool = False


EXPIRED_URL = Response(status=403, body=EXPIRED, headers={"Content-Type": "application/xml", "ETag": None})


class ScriptedServer:
    """Serves ``content`` at presigned URLs: with one of ``responses`` per request, then as S3 would."""

    def __init__(self) -> None:
        self.content = b""
        self.etag = '"one"'
        self.compression_algorithm: str | None = None
        self.responses: deque[Response] = deque()
        self.always: Response | None = None
        self.requests: list[dict[str, str]] = []
        self.urls_given = 0
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"script": self}))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self.stopping = threading.Event()

    def __enter__(self) -> ScriptedServer:
        self._thread.start()
        return self

    def __exit__(self, *_) -> None:
        self.stopping.set()
        self._server.shutdown()
        self._server.server_close()

    @property
    def port(self) -> int:
        return self._server.server_address[1]

    def fetch(self) -> Document:
        """What the operator passes as ``fetch_document``."""
        self.urls_given += 1
        query = f"response-content-encoding=identity&X-Amz-Expires=300&X-Amz-Signature={SECRET}{self.urls_given}"
        url = f"http://127.0.0.1:{self.port}/%2FNinetyDays/amzn1.tortuga~4%7Ena?{query}"
        return Document(url, self.compression_algorithm)


@dataclass(frozen=True)
class Document:
    url: str
    compression_algorithm: str | None = None


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    script: ScriptedServer

    def do_GET(self) -> None:
        script = self.script
        script.requests.append({"path": self.path, **self.headers})
        response = script.responses.popleft() if script.responses else script.always or Response()
        status, headers, body = self._usual(response)
        if response.status is not None:
            status = response.status
        if response.body is not None:
            body = response.body
        headers |= {"Content-Length": str(len(body))}
        if response.chunked:
            headers |= {"Content-Length": None, "Transfer-Encoding": "chunked"}
        headers |= response.headers
        self.send_response(status)
        for name, value in headers.items():
            if value is not None:
                self.send_header(name, value)
        self.end_headers()
        self._send(body, response)

    def _usual(self, response: Response) -> tuple[int, dict[str, str | None], bytes]:
        content, etag = self.script.content, self.script.etag
        headers: dict[str, str | None] = {
            "ETag": etag,
            "Accept-Ranges": "bytes",
            "Content-Encoding": "identity",
        }
        if self.headers.get("If-Match", etag) != etag and not response.ignore_range:
            return 412, {}, b""
        asked = self.headers.get("Range")
        if asked is None or response.ignore_range:
            return 200, headers, content
        start = int(asked.removeprefix("bytes=").removesuffix("-"))
        if start >= len(content):
            return 416, {**headers, "Content-Range": f"bytes */{len(content)}"}, b""
        body = content[start : start + (response.piece or len(content))]
        total = "*" if response.piece else len(content)
        headers["Content-Range"] = f"bytes {start}-{start + len(body) - 1}/{total}"
        return 206, headers, body

    def _send(self, body: bytes, response: Response) -> None:
        end = next((n for n in (response.cut, response.stall) if n is not None), len(body))
        part = body[:end]
        try:
            if response.chunked:
                step = max(1, len(part) // 3)
                for start in range(0, len(part), step):
                    piece = part[start : start + step]
                    self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
                if response.cut is None and response.stall is None:
                    self.wfile.write(b"0\r\n\r\n")
            else:
                self.wfile.write(part)
            self.wfile.flush()
        except (BrokenPipeError, ConnectionResetError):
            pass
        if response.stall is not None:
            self.script.stopping.wait(10)
        if (
            response.cut is not None
            or response.stall is not None
            or response.headers.get("Content-Length", "") is None
        ):
            self.close_connection = True

    def log_message(self, *_) -> None:
        pass


def serve_gzip(host, content):
    """Have a host serve content as a gzip that the API announces."""
    host.content, host.compression_algorithm = gzip.compress(content, mtime=0), "GZIP"
