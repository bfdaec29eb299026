"""The steps of a round, a few at the same time."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from airflow_provider_amzbiz.batch.item import Item
from airflow_provider_amzbiz.batch.record import Stint

# Calls and transfers at the same time, which mostly wait for the network.
MAX_WORKERS = 4

# What to do, with which item, and what else it needs.
Step = tuple[Callable[[Item, Any], None], Item, Any]


class Steps:
    """Runs the steps of one round. After one that ends the round, no other begins.

    :param stopped: asked before each step whether the task is being ended.
    """

    def __init__(self, stint: Stint, stopped: Callable[[], bool]) -> None:
        self._stint = stint
        self._stopped = stopped
        self._broken = False

    def run(self, steps: Iterable[Step]) -> None:
        """Run steps to their ends.

        :raises Exception: what the first one raised that ends the round.
        """
        todo = list(steps)
        if not todo:
            return
        with ThreadPoolExecutor(min(MAX_WORKERS, len(todo)), thread_name_prefix="amzbiz-batch") as workers:
            running = [workers.submit(self._run, *step) for step in todo]
            try:
                for each in running:
                    each.result()
            except BaseException:
                self._broken = True
                raise
            finally:
                workers.shutdown(cancel_futures=True)

    def _run(self, action: Callable[[Item, Any], None], item: Item, given: Any) -> None:
        if self._broken or self._stopped():
            return
        try:
            action(item, given)
        except BaseException:
            self._broken = True
            raise
        finally:
            self._stint.touch([item])
