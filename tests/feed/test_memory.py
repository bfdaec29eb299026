"""Many transactions in little memory."""

from __future__ import annotations

import tracemalloc
from datetime import timedelta

import pytest

from tests.feed.world import DAY, START, RowsApi, World, charge, invoice, line

DOCUMENTS = 200


class ManyRows(RowsApi):
    """Rows that are made as they are read, of few documents."""

    count = 0

    def get_transactions(self, feed_start_date, feed_end_date):
        from airflow_provider_amzbiz.client.reconciliation_models import Transaction

        for number in range(self.count):
            order = f"O{number % DOCUMENTS}"
            each = charge(f"T{number}", line(order, f"L{number}"), feed_date=START + timedelta(seconds=number))
            yield Transaction.from_api(each)

    def get_invoice_details(self, order_line_items):
        self.details = {ids: [invoice(f"N{ids[0]}")] for ids in order_line_items}
        yield from super().get_invoice_details(list(self.details))
        self.asked.clear()


class Counted:
    """Tables that only count."""

    def __init__(self):
        self.rows = {}

    def write(self, name, file, rows):
        self.rows[name] = sum(1 for _ in rows)
        return name

    def mark(self, file, content):
        return file


def peak(count):
    world = World(ManyRows())
    world.api.count = count
    world.clock.advance(2 * DAY)
    tables = Counted()
    tracemalloc.start()
    try:
        begun = world.begin("run")
        plan = begun.plan(world.api, world.ledger)
        before = world.store.bytes_written
        begun.finish(plan, world.deliver(begun, plan), tables)
        # What the store itself holds is S3's.
        found = tracemalloc.get_traced_memory()[1] - world.store.bytes_written
    finally:
        tracemalloc.stop()
    assert before
    assert len(plan.due) == DOCUMENTS
    assert tables.rows["transactions"] == tables.rows["document_lines"] == count
    return found


@pytest.mark.timeout(400)
def test_ten_times_the_transactions_take_no_more_memory():
    few, many = peak(5_000), peak(50_000)
    print(f"Peak: {few / 1e6:.1f} MB for 5,000 transactions, {many / 1e6:.1f} MB for 50,000")
    assert many - few < 16e6
