"""Fixtures of the client's tests."""

from __future__ import annotations

import pytest

from tests.client.clients import client_of


@pytest.fixture
def client(sandbox):
    return client_of(sandbox)
