"""When to abandon a transfer: when its task ends, or when it takes too long."""

from __future__ import annotations

import time
from collections.abc import Callable

from airflow_provider_amzbiz.client.sleeping import interruptible_sleep
from airflow_provider_amzbiz.documents.errors import DocumentDownloadError

# Maximum seconds for one document, including its upload: 50 GiB at 2.4 MB/s.
TIME_LIMIT = 6 * 3600.0


class Watch:
    """Checks whether a transfer may continue.

    :param stopped: returns whether the task is to end.
    :param time_limit: seconds from now. Default :data:`TIME_LIMIT`.
    """

    def __init__(self, stopped: Callable[[], bool], time_limit: float | None = None) -> None:
        self._stopped = stopped
        self._time_limit = TIME_LIMIT if time_limit is None else time_limit
        self._end = time.monotonic() + self._time_limit

    def check(self) -> None:
        """Do nothing while the transfer may continue.

        :raises DocumentDownloadError: it may not.
        """
        if self._stopped():
            raise DocumentDownloadError("The transfer was stopped")
        if time.monotonic() > self._end:
            raise DocumentDownloadError(f"The document took longer than the maximum of {self._time_limit:.0f} s")

    def pause(self, seconds: float) -> None:
        """Wait, and check twice a second whether the transfer may continue.

        :raises DocumentDownloadError: it may not.
        """
        interruptible_sleep(seconds, self.check)
