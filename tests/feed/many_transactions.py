"""A run of many transactions, in a process of its own: ``python -m tests.feed.many_transactions COUNT``."""

from __future__ import annotations

import json
import logging
import sys
import tempfile
from datetime import timedelta
from pathlib import Path

from airflow_provider_amzbiz.batch.object_store import StoredBytes
from airflow_provider_amzbiz.client.reconciliation_models import Transaction
from tests.feed.world import DAY, START, RowsApi, World, charge, invoice, line

DOCUMENTS = 200
# Everything that is needed once is loaded by then.
_FIRST = 2000


class ManyRows(RowsApi):
    """Rows that are made as they are read, of few documents."""

    count = 0
    peak = 0

    def get_transactions(self, feed_start_date, feed_end_date):
        for number in range(self.count):
            if number == _FIRST:
                self.peak = peak()
            order = f"O{number % DOCUMENTS}"
            each = charge(f"T{number}", line(order, f"L{number}"), feed_date=START + timedelta(seconds=number))
            yield Transaction.from_api(each)

    def get_invoice_details(self, order_line_items):
        self.details = {ids: [invoice(f"N{ids[0]}")] for ids in order_line_items}
        yield from super().get_invoice_details(list(self.details))
        self.asked.clear()


class DiskStore:
    """S3, as a folder."""

    def __init__(self, folder, clock):
        self.folder = Path(folder)
        self.clock = clock

    def uri(self, key):
        return key

    def get(self, key):
        path = self.folder / key.replace("/", "_")
        return StoredBytes(path.read_bytes(), '"x"', self.clock.now()) if path.exists() else None

    def put(self, key, body, *, content_type, **condition):
        (self.folder / key.replace("/", "_")).write_bytes(body)
        return '"x"'


class CountedTables:
    """Tables that only count."""

    def __init__(self):
        self.rows = {}

    def write(self, name, file, rows):
        self.rows[name] = sum(1 for _ in rows)
        return name

    def mark(self, file, content):
        return file


def peak():
    """Return the most memory that this process ever had, in bytes."""
    status = Path("/proc/self/status").read_text().splitlines()
    (line,) = [each for each in status if each.startswith("VmHWM:")]
    return int(line.split()[1]) * 1024


def main(count):
    logging.disable(logging.CRITICAL)
    world = World(ManyRows())
    world.api.count = count
    world.clock.advance(2 * DAY)
    tables = CountedTables()
    with tempfile.TemporaryDirectory() as folder:
        world.store = DiskStore(folder, world.clock)
        begun = world.begin("run")
        plan = begun.plan(world.api, world.ledger)
        begun.finish(plan, world.deliver(begun, plan), tables)
    return {"growth": peak() - world.api.peak, "due": len(plan.due), **tables.rows}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(int(sys.argv[1]))))
