"""The channel from a task to its supervisor, which not every Airflow locks."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from airflow_provider_amzbiz.hooks import supervisor
from airflow_provider_amzbiz.hooks.amazon_business import AmazonBusinessHook
from airflow_provider_amzbiz.transfers.reports_to_s3 import ReportsToS3Operator
from tests.airflow_names import mask_secret
from tests.deferring import context, run


class Channel:
    """Counts its uses, and those during which there was another one."""

    def __init__(self):
        self.uses = self.mixed_up = 0
        self._users = set()

    def use(self, call):
        def used(*arguments):
            me = threading.get_ident()
            self.uses += 1
            self.mixed_up += bool(self._users - {me})
            self._users.add(me)
            try:
                # A response takes some time.
                time.sleep(0.01)
                return call(*arguments)
            finally:
                self._users.discard(me)

        return used


@pytest.fixture
def channel(monkeypatch):
    found = Channel()
    monkeypatch.setattr(supervisor, "mask_secret", found.use(mask_secret))
    read = found.use(AmazonBusinessHook.get_connection)
    monkeypatch.setattr(AmazonBusinessHook, "get_connection", staticmethod(read))
    monkeypatch.setattr(supervisor, "_in_task", False)
    return found


@pytest.mark.parametrize("deferrable", [True, False])
@pytest.mark.usefixtures("sandbox")
def test_the_threads_of_a_batch_use_it_one_after_the_other(channel, s3, deferrable):
    def batch():
        return ReportsToS3Operator(
            task_id="batch",
            requests=[
                {"report_type": "GET_AB_INVOICE_PDF", "report_options": {"invoiceId": str(number)}}
                for number in range(8)
            ],
            s3_bucket="tests",
            s3_key=f"supervisor/{deferrable}/{{invoiceId}}.pdf",
            poke_interval=0.1,
            deferrable=deferrable,
        )

    assert run(batch, context())["landed"] == 8
    assert channel.uses > 4
    assert channel.mixed_up == 0


@pytest.mark.usefixtures("sandbox")
def test_the_threads_of_a_triggerer_do_not_wait_for_each_other(channel):
    # Each waits until all four are reading.
    together = threading.Barrier(4, timeout=10)
    read = AmazonBusinessHook.get_connection

    def slow(conn_id):
        together.wait()
        return read(conn_id)

    hooks = [AmazonBusinessHook.for_trigger("amazon_business_default") for _ in range(4)]
    for hook in hooks:
        hook.get_connection = slow
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda hook: hook.connection.conn_id, hooks))

    assert found == ["amazon_business_default"] * 4
