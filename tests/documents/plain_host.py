"""An HTTP server with a different document at each path."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.documents.scripted_server import Document


class PlainHost:
    """Sends a document with a cookie; keeps the headers and the client's address of each request."""

    def __init__(self):
        seen = self.seen = []

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                seen.append((self.client_address, {name.lower() for name in self.headers}))
                body = self.path.encode() * 100
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.send_header("Set-Cookie", "session=1; Path=/")
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def fetch(self, name="x"):
        return Document(f"http://127.0.0.1:{self._server.server_address[1]}/{name}?X-Amz-Signature=1", None)

    def stop(self):
        self._server.shutdown()
        self._server.server_close()
