"""The reports that a trigger waits for, in the few bytes that its arguments may have."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import NamedTuple

# Bytes of JSON for the reports in a trigger's arguments. Encrypted, all arguments together stay below 60 KB.
PACKED_BYTES = 36_000


class RunningReport(NamedTuple):
    """A report to wait for.

    :ivar sent_at: Unix time at which it was asked for.
    :ivar adopted: whether it was taken from a listing, so that it is never cancelled.
    """

    report_id: str
    report_type: str
    sent_at: float
    adopted: bool


def pack(reports: Iterable[RunningReport], size: int = PACKED_BYTES) -> tuple[list[str], int]:
    """Return as many reports as fit a trigger's arguments, in their order, and how many those are.

    Thousands of reports would not fit a row of Airflow's database (64 KiB on MySQL, encrypted). So a report is one
    string: its type as a number, the seconds since the first one, ``a`` or ``-``, and its id. The first string has
    the time and the types.

    :param size: bytes of JSON that the strings may have.
    """
    types: dict[str, int] = {}
    base: float | None = None
    first = 0
    packed: list[str] = []
    for report in reports:
        base = float(int(report.sent_at)) if base is None else base
        if report.report_type not in types:
            types[report.report_type] = len(types)
            # The types stand in the first string, with the quotes that JSON escapes there.
            first = 2 * len(json.dumps(list(types))) + 64
        adopted = "a" if report.adopted else "-"
        one = f"{types[report.report_type]} {report.sent_at - base:.0f} {adopted} {report.report_id}"
        size -= len(json.dumps(one)) + len(", ")
        if packed and size < first:
            break
        packed.append(one)
    head = [json.dumps([base, list(types)])] if packed else []
    return [*head, *packed], len(packed)


def unpack(packed: Sequence[str]) -> list[RunningReport]:
    """Return the reports that :func:`pack` has packed."""
    if not packed:
        return []
    base, types = json.loads(packed[0])
    reports = []
    for one in packed[1:]:
        kind, seconds, adopted, report_id = one.split(" ", 3)
        reports.append(RunningReport(report_id, types[int(kind)], base + float(seconds), adopted == "a"))
    return reports
