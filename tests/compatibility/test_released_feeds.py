"""What the feeds of released versions have left behind is continued by this one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from airflow_provider_amzbiz import __version__
from tests.compatibility.feeds import DE, US, restored, second_day

HERE = Path(__file__).parent
VERSIONS = sorted(each.parent.name for each in HERE.glob("*/feed.json"))


def test_there_is_a_feed_of_this_version():
    assert __version__ in VERSIONS


@pytest.mark.parametrize("state", ["between", "planned"])
@pytest.mark.parametrize("version", VERSIONS)
def test_a_feed_is_continued(version, state):
    world = restored(json.loads((HERE / version / "feed.json").read_text())[state])
    second_day(world)
    world.made_again["N1"] = b"N1, made again"

    result, _ = world.run("second")

    assert sorted(world.created) == sorted(
        [(DE, json.dumps({"orderId": "O1"})), (US, json.dumps({"documentType": "Invoice", "invoiceId": "N9"}))]
    )
    assert (result["requested"], result["landed"], result["open_items"]) == (2, 2, 0)
    # The order's files are under the key that it had; what was delivered is only there because it has changed.
    folder = "s3://bucket/invoices/A1PA6795UKMFR9/2026/10/Invoice/O1"
    assert sorted(
        (row["document_number"], row["object_uri"], row["total_amount"]) for row in world.tables.documents
    ) == [
        ("N1", f"{folder}/N1.pdf", "10.00"),
        ("N2", f"{folder}/N2.pdf", "5.00"),
        ("N9", "s3://bucket/invoices/ATVPDKIKX0DER/2026/10/Invoice/N9/N9.pdf", "7.00"),
    ]
    assert {row["transaction_id"]: row["document_number"] for row in world.tables.lines} == {
        "T1": "N1",
        "T2": "N9",
        "T3": "N2",
    }
    assert world.tables.open_items == []
