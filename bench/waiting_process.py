"""A process of :mod:`bench.waiting`, as other benchmarks use it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from airflow_provider_amzbiz.demo.airflow_server import airflow_settings
from airflow_provider_amzbiz.sandbox import Sandbox


@dataclass
class Result:
    """The results of a process that waited, in times of the sandbox's clock.

    :ivar joined: when all its waits had joined.
    :ivar ends: when each report's event arrived.
    :ivar figures: see :mod:`bench.waiting`.
    """

    joined: datetime
    ends: dict[str, datetime]
    figures: dict[str, float]


class WaitingProcess:
    """A process that runs waits until all have ended.

    :param connections: Airflow connections by id.
    :param waits: see :mod:`bench.waiting`.
    :param design: ``ours`` or ``plain``.
    :param warm_up: real seconds that the figures leave out.
    """

    def __init__(
        self,
        sandbox: Sandbox,
        connections: Mapping[str, Mapping[str, Any]],
        waits: Sequence[Mapping[str, Any]],
        *,
        design: str = "ours",
        warm_up: float = 0.0,
    ) -> None:
        self._clock = sandbox.clock
        self._command = [sys.executable, "-m", "bench.waiting", design, str(self._clock.scale), str(warm_up)]
        self._environment = {
            **os.environ,
            **{f"AIRFLOW_CONN_{name.upper()}": json.dumps(each) for name, each in connections.items()},
            "AIRFLOW__LOGGING__LOGGING_LEVEL": "ERROR",
        }
        self._waits = json.dumps(waits)

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            home = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            waits = stack.enter_context(tempfile.TemporaryFile("w+"))
            waits.write(self._waits)
            waits.seek(0)
            self._began = time.time(), self._clock.now()
            self._process = subprocess.Popen(
                self._command,
                stdin=waits,
                stdout=subprocess.PIPE,
                env={**self._environment, **airflow_settings(home, home)},
                text=True,
            )
            # Ends what is left if the benchmark fails.
            stack.callback(self._process.wait)
            stack.callback(self._process.kill)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def result(self, until: Callable[[], bool] | None = None) -> Result:
        """Return the results when all waits have ended.

        :param until: when to stop, where the reports do not end.
        """
        process = self._process
        assert process.stdout
        joined = process.stdout.readline()
        while until and process.poll() is None and not until():
            time.sleep(0.1)
        if until:
            process.send_signal(signal.SIGTERM)
        output = process.stdout.read()
        if process.wait():
            raise RuntimeError("The process that waits has failed; its error is above")
        figures = json.loads(output)
        ends = {each: self._by_the_sandbox(at) for each, at in figures.pop("ends").items()}
        return Result(self._by_the_sandbox(float(joined)), ends, figures)

    def _by_the_sandbox(self, moment: float) -> datetime:
        real, api = self._began
        return api + timedelta(seconds=(moment - real) * self._clock.scale)
