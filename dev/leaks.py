"""Searches everything that an Airflow has written for secrets: files, database rows and trigger rows."""

from __future__ import annotations

import os
import subprocess
import tempfile
import threading
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote

from cryptography.fernet import Fernet

from airflow_provider_amzbiz.sandbox import Sandbox

# Only a presigned URL, an access token and a refresh token contain these.
_MARKS = ("X-Amz-Signature", "Atza|", "Atzr|")
_POLL_SECONDS = 0.3
# grep must compare bytes, whatever the locale of this machine.
_PLAIN = {**os.environ, "LC_ALL": "C"}


def leaks(texts: Iterable[tuple[str, str]], secrets: Iterable[str]) -> list[tuple[str, str]]:
    """Return the places of secrets, each with the beginning of the secret.

    :param texts: pairs of a place and its text.
    """
    sought = {form for secret in (*secrets, *_MARKS) for form in (secret, quote(secret, safe=""))}
    places: list[str] = []
    begins: list[int] = []
    with tempfile.NamedTemporaryFile() as patterns, tempfile.NamedTemporaryFile() as everything:
        patterns.write("\n".join(sought).encode())
        patterns.flush()
        for where, text in texts:
            places.append(where)
            begins.append(everything.tell())
            everything.write(text.encode() + b"\n")
        everything.flush()
        # grep searches for all secrets in one pass; Python would read hundreds of megabytes once for each of them.
        how = ["--fixed-strings", "--text", "--only-matching", "--byte-offset", f"--file={patterns.name}"]
        done = subprocess.run(["grep", *how, everything.name], capture_output=True, check=False, env=_PLAIN)
    if done.returncode > 1:
        raise RuntimeError(f"grep failed: {done.stderr.decode()}")
    found = (line.partition(b":") for line in done.stdout.splitlines())
    return list(
        dict.fromkeys((places[bisect_right(begins, int(at)) - 1], what.decode()[:12]) for at, _, what in found)
    )


def secrets_of(sandbox: Sandbox) -> set[str]:
    """Return the secrets of a sandbox's account, the access tokens it received, and the signatures of its URLs."""
    found = {sandbox.client_secret, sandbox.refresh_token}
    for call in sandbox.calls:
        found |= {call.headers[name] for name in ("x-amz-access-token",) if name in call.headers}
        query = parse_qs(call.query)
        found |= {value for name in ("X-Amz-Signature", "X-Amz-Security-Token") for value in query.get(name, ())}
    return found


def files(home: Path) -> Iterator[tuple[str, str]]:
    """Yield the path and the text of every file in Airflow's home, except for a database."""
    for path in home.rglob("*"):
        if path.is_file() and not path.name.startswith("airflow.db"):
            yield str(path), path.read_text(errors="replace")


class TriggerRows(threading.Thread):
    """Collects the rows of the trigger table, because Airflow deletes them when the waits end.

    :param read: returns the class paths and keyword arguments of the current rows.
    """

    def __init__(self, read: Callable[[], Iterable[tuple[str, str]]]) -> None:
        super().__init__(name="trigger-rows", daemon=True)
        self._read = read
        self._rows: set[tuple[str, str]] = set()
        self._done = threading.Event()

    def run(self) -> None:
        """Collect until :meth:`stop`."""
        while not self._done.wait(_POLL_SECONDS):
            self._rows |= set(self._read())

    def stop(self) -> None:
        """Stop collecting."""
        self._done.set()
        self.join()

    def decrypted(self, fernet_key: str) -> list[tuple[str, str]]:
        """Return the decrypted keyword arguments of each row, with its class path."""
        fernet: Any = Fernet(fernet_key.encode())
        # Without a Fernet key, Airflow stores them in plain text.
        return [
            (path, kwargs if kwargs.startswith("{") else fernet.decrypt(kwargs.encode()).decode())
            for path, kwargs in self._rows
        ]
