"""When to give a document up: where its task ends, and where it takes too long."""

from __future__ import annotations

import time
from collections.abc import Callable

from airflow_provider_amzbiz.documents.errors import DocumentDownloadError

# Seconds for one document from the first byte to the last, its upload included: 50 GiB at 2.4 MB/s.
TIME_LIMIT = 6 * 3600.0
_PAUSE_STEP = 0.5


class Watch:
    """Asks whether to go on.

    :param stopped: whether the task is to end.
    :param time_limit: seconds from now.
    """

    def __init__(self, stopped: Callable[[], bool], time_limit: float | None = None) -> None:
        self._stopped = stopped
        self._time_limit = TIME_LIMIT if time_limit is None else time_limit
        self._end = time.monotonic() + self._time_limit

    def check(self) -> None:
        """Do nothing, as long as all is well.

        :raises DocumentDownloadError: the document is to be given up.
        """
        if self._stopped():
            raise DocumentDownloadError("The transfer was stopped")
        if time.monotonic() > self._end:
            raise DocumentDownloadError(
                f"The document took longer than the {self._time_limit:.0f} s that one may take"
            )

    def pause(self, seconds: float) -> None:
        """Wait, and look every now and then whether to give up.

        :raises DocumentDownloadError: the document is to be given up.
        """
        end = time.monotonic() + seconds
        self.check()
        while (left := end - time.monotonic()) > 0:
            time.sleep(min(left, _PAUSE_STEP))
            self.check()
