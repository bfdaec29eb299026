"""When a transfer is abandoned."""

from __future__ import annotations

import itertools

import pytest

from airflow_provider_amzbiz.documents.errors import DocumentDownloadError
from airflow_provider_amzbiz.documents.watch import Watch


def test_a_transfer_continues_until_its_task_is_ended():
    polls = itertools.count(1)
    watch = Watch(lambda: next(polls) > 2)
    watch.check()
    watch.check()
    with pytest.raises(DocumentDownloadError, match="was stopped"):
        watch.check()


def test_a_transfer_has_a_time_limit():
    with pytest.raises(DocumentDownloadError, match="longer than the maximum of"):
        Watch(lambda: False, time_limit=-0.001).check()


def test_a_pause_ends_with_the_task():
    polls = itertools.count(1)
    with pytest.raises(DocumentDownloadError, match="was stopped"):
        Watch(lambda: next(polls) > 2).pause(3600)


def test_a_pause_passes():
    Watch(lambda: False).pause(0.01)
