"""``python -m airflow_provider_amzbiz.sandbox``: serve until Ctrl-C or SIGTERM."""

from __future__ import annotations

import argparse
import ipaddress
import json
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

_EPILOG = """\
The beginning of its invoiceId chooses the outcome of a report: NO-DATA (CANCELLED), FATAL, FATAL-DOC (FATAL with
a document), SLOW (ten times the usual time), MULTI (three PDFs in the ZIP). The report type SANDBOX_ORDER_LINES
is a TSV of any size, set by the options rows or bytes. GET /sandbox/calls and /sandbox/reports show what
happened; POST to /sandbox/faults, /sandbox/script, /sandbox/invoices, /sandbox/clock and /sandbox/expire-tokens
makes things happen.
"""


def arguments() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m airflow_provider_amzbiz.sandbox",
        description="The Amazon Business Reports API on this machine.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--port", type=int, default=0, help="port; 0 takes a free one")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--allow-remote", action="store_true", help="accept a --host that others can reach")
    parser.add_argument("--time-scale", type=float, default=1.0, help="sandbox seconds per real second")
    parser.add_argument("--no-throttle", dest="throttle", action="store_false", help="never return 429")
    parser.add_argument("--plan", choices=["2026", "2025", "sandbox"], default="2026", help="limits")
    parser.add_argument("--queue-seconds", type=float, default=5.0, help="sandbox seconds IN_QUEUE")
    parser.add_argument("--processing-seconds", type=float, default=5.0, help="sandbox seconds IN_PROGRESS")
    _add_behaviour(parser)
    parser.add_argument("--static", action="store_true", help="Amazon's ten static cases and nothing else")
    for name in ("client-id", "client-secret", "refresh-token"):
        parser.add_argument(f"--{name}", default="", help="by default a random one")
    parser.add_argument("--connection-file", type=Path, help="write the Airflow connection there, as JSON")
    return parser


def _add_behaviour(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--region",
        choices=["na", "eu", "fe", "any"],
        default="na",
        help="whose marketplaces are served; any: all, one region per request",
    )
    parser.add_argument("--no-role", dest="has_role", action="store_false", help="return 403, as without the role")
    seconds = {
        "not-found": "for which getReport returns 404 for a new report",
        "listing-lag": "after which getReports shows a new report",
        "document-lag": "for which getReportDocument returns 400 for a new document",
        "repeat": "within which an equal request ends CANCELLED",
        "shared-document": "within which equal requests share a document id",
    }
    for name, meaning in seconds.items():
        parser.add_argument(f"--{name}-seconds", type=float, default=0.0, help=f"sandbox seconds {meaning}")
    parser.add_argument("--document-days", type=float, default=30, help="sandbox days that documents are kept")
    parser.add_argument("--report-days", type=float, default=90, help="sandbox days that reports are kept")
    parser.add_argument(
        "--known-invoices",
        type=lambda given: given.split(","),
        metavar="ID,ID...",
        help="the only invoices and orders that exist; others end CANCELLED",
    )
    parser.add_argument("--one-at-a-time", action="store_true", help="an account's reports wait for each other")
    parser.add_argument("--time-format", choices=["+00:00", ".sssZ"], default="+00:00", help="of responses")


def main() -> int:
    """Serve; return the exit status."""
    parser = arguments()
    given = vars(parser.parse_args())
    # Whoever can reach it controls it, without a password.
    if not given.pop("allow_remote") and not _is_loopback(given["host"]):
        parser.error(f"{given['host']} can be reached by others; pass --allow-remote if that is intended")
    try:
        from airflow_provider_amzbiz.sandbox.server import Sandbox
    except ImportError as error:
        print(
            f"The sandbox needs the extra: pip install 'airflow-provider-amzbiz[sandbox]' ({error})",
            file=sys.stderr,
        )
        return 1
    connection_file = given.pop("connection_file")
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    try:
        created = Sandbox(**given)
    except (OSError, OverflowError, ValueError) as error:
        print(f"The sandbox cannot start: {error}", file=sys.stderr)
        return 1
    with created as sandbox:
        if connection_file:
            _write_privately(connection_file, sandbox.connection)
        print(f"Amazon Business API sandbox at {sandbox.url}")
        print(f"export AIRFLOW_CONN_AMAZON_BUSINESS_DEFAULT='{json.dumps(sandbox.connection)}'", flush=True)
        stopped.wait()
    return 0


def _write_privately(path: Path, connection: dict[str, Any]) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        # The mode of open() applies to a new file only; this one may be older.
        os.fchmod(file.fileno(), 0o600)
        json.dump(connection, file)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


if __name__ == "__main__":
    sys.exit(main())
