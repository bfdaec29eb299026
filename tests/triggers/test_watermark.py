"""What a watch has announced."""

from __future__ import annotations

import itertools
from datetime import datetime, timedelta, timezone

import pytest

from airflow_provider_amzbiz.client.models import Report
from airflow_provider_amzbiz.triggers.watermark import RETENTION, Watermark

MARK = datetime(2026, 1, 1, tzinfo=timezone.utc)


def report(report_id, status, *, minutes=1.0):
    return Report(report_id, "SANDBOX_ORDER_LINES", status, MARK + timedelta(minutes=minutes))


@pytest.mark.parametrize("order", itertools.permutations(["1", "2", "3"]), ids="".join)
def test_reports_are_announced_once_in_whichever_order_they_finish(order):
    watermark, announced = Watermark(MARK), []
    status = dict.fromkeys(["1", "2", "3"], "IN_PROGRESS")
    for finished in order:
        for _ in range(2):
            listed = [report(each, status[each], minutes=int(each)) for each in status]
            announced += [each.report_id for each in listed if watermark.add(each)]
            watermark.advance(MARK + timedelta(days=1), listed)
        status[finished] = "DONE"
    last = [report(each, "DONE", minutes=int(each)) for each in status]
    announced += [each.report_id for each in last if watermark.add(each)]

    assert announced == list(order)


@pytest.mark.parametrize("status", ["CANCELLED", "FATAL"])
def test_a_useless_report_is_neither_announced_nor_kept(status):
    watermark = Watermark(MARK)
    assert not watermark.add(report("1", "IN_PROGRESS"))
    assert list(watermark.pending) == ["1"]

    assert not watermark.add(report("1", status))
    assert (watermark.pending, watermark.announced) == ({}, {})


def test_a_status_that_is_not_known_is_in_progress():
    watermark = Watermark(MARK)

    assert not watermark.add(report("1", "PAUSED"))
    assert watermark.add(report("1", "DONE"))


def test_a_report_from_before_the_mark_is_not_announced():
    assert not Watermark(MARK).add(report("1", "DONE", minutes=-1))


def test_a_report_in_the_mark_s_own_second_is_announced():
    assert Watermark(MARK).add(report("1", "DONE", minutes=0))


def test_the_mark_stays_behind_reports_that_the_listing_may_show_late():
    watermark, now = Watermark(MARK), MARK + timedelta(hours=1)
    watermark.advance(now, [report("1", "DONE", minutes=59)])

    assert watermark.mark == now - timedelta(minutes=15)


def test_the_mark_never_passes_the_newest_report_nor_goes_back():
    watermark = Watermark(MARK)
    watermark.advance(MARK + timedelta(days=1), [report("1", "DONE", minutes=1)])
    assert watermark.mark == MARK + timedelta(minutes=1)

    watermark.advance(MARK - timedelta(days=1), [report("1", "DONE", minutes=1)])
    assert watermark.mark == MARK + timedelta(minutes=1)


def test_the_record_stays_small():
    watermark = Watermark(MARK)
    watermark.announced = {"1": MARK + timedelta(minutes=1)}
    watermark.pending = {"2": MARK + timedelta(minutes=1)}

    newest = [report("3", "DONE", minutes=10)]
    watermark.advance(MARK + timedelta(days=89), newest)
    assert (watermark.announced, list(watermark.pending)) == ({}, ["2"])
    watermark.advance(MARK + RETENTION + timedelta(days=1), newest)
    assert watermark.pending == {}


def test_the_record_is_read_as_it_was_written():
    watermark = Watermark(MARK, {"1": MARK}, {"2": MARK + timedelta(seconds=1)})

    assert Watermark.from_dict(watermark.to_dict()) == watermark
