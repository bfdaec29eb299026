"""A clean-up is completed, however often the end of the task interrupts it."""

from __future__ import annotations

import pytest

from airflow_provider_amzbiz.documents.interrupts import TransferInterrupted, despite_interrupts


@pytest.mark.parametrize("times", [1, 2, 9])
def test_an_interrupted_clean_up_is_repeated(times):
    runs = []

    def clean_up():
        runs.append(len(runs))
        if len(runs) <= times:
            raise TransferInterrupted

    with pytest.raises(TransferInterrupted):
        despite_interrupts(clean_up)
    assert len(runs) == times + 1


def test_a_clean_up_runs_once_without_an_interrupt():
    runs = []
    despite_interrupts(lambda: runs.append(None))
    assert len(runs) == 1


def test_a_clean_up_that_never_ends_is_abandoned():
    runs = []

    def clean_up():
        runs.append(None)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        despite_interrupts(clean_up)
    assert len(runs) == 10


def test_an_interrupt_is_no_exception_that_botocore_retries():
    assert not issubclass(TransferInterrupted, Exception)
