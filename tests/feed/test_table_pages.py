"""The pages of the tables: every column in its order, with its type, and every reason for an open item."""

from __future__ import annotations

import re

import pytest

from airflow_provider_amzbiz.feed import names
from airflow_provider_amzbiz.feed.columns import TABLES
from tests.feed.warehouse import columns_of_page, page


@pytest.mark.parametrize("table", TABLES)
def test_a_page_has_the_columns_of_its_table(table):
    found = [(name, kind) for name, kind, _ in columns_of_page(table)]
    assert found == list(TABLES[table].items())


def test_the_page_of_open_items_has_every_reason():
    reasons = [value for name, value in vars(names).items() if name.isupper() and isinstance(value, str)]
    text = re.sub(r"\s+", " ", page("open_items"))
    assert [each for each in reasons if " " in each and each != names.PAY_BY_INVOICE and each not in text] == []
