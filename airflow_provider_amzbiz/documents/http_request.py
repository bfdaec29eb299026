"""One HTTP request in a thread of its own, so that whoever waits for its bytes can stop at any moment."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from airflow_provider_amzbiz.client.sleeping import CHECK_SECONDS
from airflow_provider_amzbiz.documents.http_body import BrokenBodyError, body_of, content_length
from airflow_provider_amzbiz.documents.streams import CHUNK

if TYPE_CHECKING:
    import requests

THREAD_NAME = "amzbiz-download"
# Bytes that are read ahead.
_RING = 2 * CHUNK


class RunningRequest:
    """A request that is sent, and a body that is read ahead, in the background.

    :param send: sends the request and returns the response, of which only the headers have been read.
    :param check: called with each read, and twice a second while waiting; raises to stop.
    """

    def __init__(self, send: Callable[[], requests.Response], check: Callable[[], None]) -> None:
        self._send = send
        self._check = check
        self._changed = threading.Condition()
        self._response: requests.Response | None = None
        self._ring = memoryview(b"")
        # Bytes that were read from the network, and by the caller, since the body began.
        self._received = self._consumed = 0
        self._failure = ""
        self._own_failure: Exception | None = None
        self._ended = False
        self._wanted = False
        self._closed = False
        self._wire: socket.socket | None = None
        # A daemon, because a silent host may hold it for the whole timeout when nobody waits for it any more.
        threading.Thread(target=self._run, name=THREAD_NAME, daemon=True).start()

    def response(self) -> tuple[requests.Response | None, str]:
        """Wait for the headers; return the response, or None and the reason.

        :raises OSError: the failure is this machine's own, such as a missing CA bundle.
        """
        self._wait(lambda: self._response is not None or self._ended)
        if self._own_failure is not None:
            raise self._own_failure
        return self._response, self._failure

    def has_body(self) -> bool:
        """Wait for the first byte of the body; return whether there is one."""
        self._want_body()
        return self._received > 0

    def readinto(self, buffer: Any) -> tuple[int, str]:
        """Read some bytes of the body.

        :return: how many, 0 at the end, and the reason if the body broke, after all bytes before the break.
        """
        self._check()
        self._want_body()
        count = min(len(buffer), self._received - self._consumed)
        if not count:
            return 0, self._failure
        start = self._consumed % len(self._ring)
        count = min(count, len(self._ring) - start)
        buffer[:count] = self._ring[start : start + count]
        with self._changed:
            self._consumed += count
            self._changed.notify_all()
        return count, ""

    def _want_body(self) -> None:
        """Wait for bytes that were not read yet, or for the end."""
        with self._changed:
            self._wanted = True
            self._changed.notify_all()
        self._wait(lambda: self._received > self._consumed or self._ended)

    def close(self) -> None:
        """Close the connection; the thread ends by itself."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            if self._wire is not None:
                # The thread may be reading, and closing its file would wait for that: this ends the read.
                with contextlib.suppress(OSError):
                    self._wire.shutdown(socket.SHUT_RDWR)

    def _wait(self, ready: Callable[[], bool]) -> None:
        with self._changed:
            while not self._changed.wait_for(ready, CHECK_SECONDS):
                self._check()

    def _run(self) -> None:
        response: requests.Response | None = None
        failure = ""
        try:
            response = self._send()
            self._receive(response)
        except Exception as error:  # noqa: BLE001  # Its message may contain the URL, so only its name is kept.
            failure = str(error) if isinstance(error, BrokenBodyError) else type(error).__name__
            if response is None and _is_own(error):
                self._own_failure = error
        finally:
            if response is not None:
                response.close()
            with self._changed:
                self._failure = failure
                self._ended = True
                if self._wire is not None:
                    self._wire.close()
                    self._wire = None
                self._changed.notify_all()

    def _receive(self, response: requests.Response) -> None:
        # Bypass urllib3, to read the body by our own framing.
        original: Any = response.raw._original_response
        with self._changed:
            self._wire = socket.socket(fileno=os.dup(original.fileno()))
            self._response = response
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._wanted or self._closed)
        # No larger than the body: most are small, and clearing memory would take longer than reading them.
        size = max(1, min(_RING, content_length(response.headers) or _RING))
        self._ring = memoryview(bytearray(size))
        body = body_of(response.headers, original.fp)
        while not self._closed:
            with self._changed:
                self._changed.wait_for(lambda: self._received - self._consumed < size or self._closed)
            start = self._received % size
            free = min(size - (self._received - self._consumed), size - start)
            count = body.readinto(self._ring[start : start + free])
            if not count:
                return
            with self._changed:
                self._received += count
                self._changed.notify_all()


def _is_own(error: Exception) -> bool:
    """Whether sending failed on this machine: requests wraps the failures of the network."""
    import requests

    return isinstance(error, (OSError, MemoryError)) and not isinstance(error, requests.RequestException)
