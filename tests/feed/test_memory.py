"""Many transactions in little memory."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_fifty_thousand_transactions_take_little_more_memory_than_two_thousand():
    command = [sys.executable, "-m", "tests.feed.many_transactions", "50000"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["due"] == found["documents"] == 200
    assert found["transactions"] == found["document_lines"] == 50_000
    # As objects of Python, they would be 300 MB.
    assert found["growth"] < 48e6
