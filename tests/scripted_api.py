"""A server that gives one scripted response to every request for a token, and a report to every other one."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

REPORT = {
    "reportId": "1",
    "reportType": "T",
    "processingStatus": "DONE",
    "createdTime": "2026-01-01T00:00:00Z",
    "reportDocumentId": "1",
    "url": "https://documents.example.com",
}
GOOD_TOKEN = (200, b'{"access_token": "Atza|good", "expires_in": 3600}')


class ScriptedApi:
    """Runs between ``with`` and its end.

    :ivar token: status and body of the response to a request for a token.
    :ivar report_headers: more headers of the other responses.
    :ivar requests: method, path and headers of each request.
    """

    def __init__(self):
        self.token = GOOD_TOKEN
        self.report_headers = []
        self.requests = []
        api = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                self.rfile.read(int(self.headers["Content-Length"] or 0))
                if self.path.startswith("/token"):
                    self.respond(*api.token)
                else:
                    self.respond(202, b'{"reportId": "1"}', api.report_headers)

            def do_GET(self):
                body = {"reports": [REPORT]} if "?" in self.path else REPORT
                self.respond(200, json.dumps(body).encode(), api.report_headers)

            def do_DELETE(self):
                self.respond(200, b"", api.report_headers)

            def respond(self, status, body, headers=()):
                api.requests.append((self.command, self.path, dict(self.headers)))
                # Without the Date that the other method adds.
                self.send_response_only(status)
                for header in headers:
                    self.send_header(*header)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *arguments):
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self.token_url = f"{self.url}/token"

    def __enter__(self):
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()
