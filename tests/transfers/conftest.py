"""What the tests of transfers share."""

from __future__ import annotations

import hashlib

import pytest


@pytest.fixture
def key(request):
    """A key of this test alone."""
    return f"{hashlib.sha1(request.node.nodeid.encode()).hexdigest()}.tsv"
