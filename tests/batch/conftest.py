"""A ledger in a bucket of its own."""

from __future__ import annotations

import uuid
from collections import Counter

import pytest

from airflow_provider_amzbiz.batch.ledger import Ledger


@pytest.fixture
def s3(s3_server):
    return s3_server.client(max_pool_connections=20)


@pytest.fixture
def bucket(s3_server):
    return s3_server.make_bucket(f"ledger-{uuid.uuid4().hex[:12]}")


@pytest.fixture
def ledger(s3, bucket):
    return Ledger(s3, f"s3://{bucket}/ledger/", account="account-1")


@pytest.fixture
def calls(s3):
    """How often each operation was called so far."""
    counted = Counter()
    s3.meta.events.register("before-call.s3", lambda model, **_: counted.update([model.name]))
    return counted
