"""Page tokens that come again."""

from __future__ import annotations

import pytest

from airflow_provider_amzbiz.client.errors import UnavailableError
from airflow_provider_amzbiz.client.page_tokens import PageTokens


def test_a_token_may_come_once_and_the_last_page_has_none():
    tokens = PageTokens()
    for each in ("a", "b", "c", None, None):
        tokens.check(each)

    with pytest.raises(UnavailableError, match="^getReports returned the same nextToken again$") as caught:
        tokens.check("a")
    assert caught.value.operation == "getReports"


def test_a_reading_that_continues_knows_its_tokens_and_keeps_few_bytes_of_each():
    before = PageTokens()
    before.check("a" * 5000)
    assert max(map(len, before.seen)) < 20

    with pytest.raises(UnavailableError, match="^getTransactions returned the same nextPageToken again$"):
        PageTokens(before.seen, operation="getTransactions", field="nextPageToken").check("a" * 5000)
