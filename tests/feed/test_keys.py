"""Keys of documents."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_amzbiz.client.errors import InvalidParameterError
from airflow_provider_amzbiz.feed.keys import check_key, fill, safe
from tests.feed.world import DAY, RowsApi, World, charge, invoice, line

NAMES = ("marketplace_id", "year", "month", "document_type", "document_number", "order_id", "name")


@pytest.mark.parametrize(
    ("written", "folder", "in_utc"),
    [
        ("2026-11-01T00:00:00+09:00", "2026/11", "2026-10-31T15:00:00.000000Z"),
        ("2026-12-31T20:00:00-08:00", "2026/12", "2027-01-01T04:00:00.000000Z"),
        ("2026-11-01T00:00:00Z", "2026/11", "2026-11-01T00:00:00.000000Z"),
    ],
)
def test_year_and_month_are_those_of_the_date_as_amazon_writes_it(written, folder, in_utc):
    details = {("O1", "L1", "S1"): [invoice("N1", invoiceDate=written)]}
    world = World(RowsApi([charge("T1", line())], details))
    world.clock.advance(DAY)
    world.run()
    (key,) = world.stored
    assert f"/{folder}/Invoice/N1/" in key
    assert [row["document_date"] for row in world.tables.documents] == [in_utc]


def test_all_placeholders_of_the_feed_are_known():
    assert check_key("/".join(f"{{{name}}}" for name in NAMES))


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("invoices/{index}.pdf", "{index}"),
        ("invoices/{invoiceId}.pdf", "{invoiceId}"),
        ("invoices/{order_id}/{name}", "no {document_number}"),
        ("invoices/all.pdf", "no {document_number}"),
        ("", "non-empty"),
        (None, "non-empty"),
        (3, "non-empty"),
    ],
)
def test_keys_under_which_documents_would_replace_each_other_are_refused(key, said):
    with pytest.raises(InvalidParameterError, match="s3_key") as caught:
        check_key(key)
    assert said in str(caught.value)


def test_what_is_known_later_is_left_to_the_batch():
    assert fill("{year}/{document_number}/{name}", {"year": "2026", "document_number": "A/1"}) == (
        f"2026/{safe('A/1')}/{{name}}"
    )
    assert fill("{month}/{order_id}", {"month": "", "order_id": None}) == "unknown/unknown"


@given(st.lists(st.text(min_size=1), min_size=2, max_size=2, unique=True))
def test_any_values_are_safe_and_stay_different(values):
    found = [safe(each) for each in values]
    assert found[0] != found[1]
    for each in found:
        assert each.isascii()
        assert not set(each) & set("/{}")
        assert each not in ("", ".", "..")


@pytest.mark.parametrize("number", ["DE412022XXXX", "1XQX-T4VG-9939", "114-1458190-2465828"])
def test_numbers_as_amazon_writes_them_stay_as_they_are(number):
    assert safe(number) == number
