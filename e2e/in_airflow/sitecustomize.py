"""What each process of the tests' Airflow imports at its start: on SIGRTMIN, it writes the names of its threads.

From outside, a process shows how many threads it has, but not whose they are.
"""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path


def _write_thread_names(*_: object) -> None:
    path = Path(os.environ["AIRFLOW_HOME"], f"threads-{os.getpid()}")
    path.with_suffix(".new").write_text("\n".join(each.name for each in threading.enumerate()))
    path.with_suffix(".new").rename(path)


signal.signal(signal.SIGRTMIN, _write_thread_names)
