"""How an attempt of the task begins: with a new plan, or with what is left of an earlier one."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from airflow_provider_amzbiz.batch.errors import RecordAccountError, RecordMissingError, RecordTakenError
from airflow_provider_amzbiz.batch.head import COMPLETE, Head, Target
from airflow_provider_amzbiz.batch.item import Item, newest_report
from airflow_provider_amzbiz.batch.key_claims import claim_delivered, claim_stored, refuse_delivered_keys
from airflow_provider_amzbiz.batch.parts import Log
from airflow_provider_amzbiz.batch.plan import Keys, Place, check_keys, is_late, reconcile
from airflow_provider_amzbiz.batch.record import Record, Stint
from airflow_provider_amzbiz.batch.state import BatchState

log = logging.getLogger(__name__)

# How often an attempt begins again because the process that it replaces has just written to the record.
_BEGINNINGS = 3

# Items by identity to the objects that an earlier batch has delivered.
Delivered = Callable[[Sequence[Item]], Mapping[str, list[dict[str, Any]]]]


def _nothing(_: Sequence[Item]) -> Mapping[str, list[dict[str, Any]]]:
    return {}


@dataclass(frozen=True)
class Attempt:
    """What a task wants now.

    :ivar planned: today's list, checked.
    :ivar target: account and bucket.
    :ivar place: bucket, key and manifest's key.
    :ivar deadline: Unix time at which the attempt ends.
    :ivar settings: what else was rendered and must not change on a resume: JSON-safe, and no secrets.
    :ivar is_same_account: whether this account knows a report, where its refresh token has changed.
    :ivar delivered: what a ledger knows of requests that no report was created for.
    :ivar missing: which of the items that this batch has stored must be stored again, because their objects are
        missing or have changed.
    :ivar check: called before anything is written, with how many reports and documents are still to come.
    """

    planned: Sequence[Item]
    target: Target
    place: Place
    keys: Keys
    deadline: float
    settings: Mapping[str, Any] = field(default_factory=dict)
    is_same_account: Callable[[str], bool] = lambda _: False
    delivered: Delivered = _nothing
    missing: Callable[[Sequence[Item]], Sequence[Item]] = lambda _: ()
    check: Callable[[int, int], None] = lambda creates, stores: None


@dataclass
class _Known:
    """What is on record of an earlier attempt.

    :ivar head: None where there is none.
    :ivar log: of the parts that are on record.
    :ivar begun: items that were begun, finished ones too.
    :ivar waiting: items that were not.
    :ivar dropped: items of earlier lists, with the targets that they were planned for.
    """

    head: Head | None = None
    log: Log | None = None
    begun: list[Item] = field(default_factory=list)
    waiting: list[Item] = field(default_factory=list)
    dropped: list[tuple[Target, Item]] = field(default_factory=list)


def begin(record: Record, attempt: Attempt) -> Stint:
    """Begin an attempt, and return its first stint, which is open.

    After a crash, ``_read`` replays the log of the process that was lost, and ``_write`` bars that process from
    the record. ``Round.run`` searches for the report of a request that it had sent without recording one.

    :raises RecordError: the record cannot be used, or another process has begun at the same time.
    :raises InvalidParameterError: two items would write the same key.
    """
    for beginning in range(1, _BEGINNINGS + 1):
        known = _read(record)
        try:
            return _begin(record, attempt, known)
        except RecordTakenError:
            there = record.read()
            if known.head is None or known.log is None or there is None or beginning == _BEGINNINGS:
                raise
            if there[0].attempt != known.head.attempt:
                raise
            if there[0].stint == known.head.stint and known.log.is_barred():
                # Another attempt has begun at the same time.
                raise
            # The process that this attempt replaces lives, and has put something on record meanwhile.
            log.info("The previous process has just written to the record; beginning again from %s", record.uri)
    raise AssertionError("the loop ends in a return or an exception")


def resume(record: Record, attempt: str, stint: int) -> Stint:
    """Continue an attempt after a wait.

    :param attempt: what the head named it when the wait began, and ``stint`` which stint had ended then.
    :raises RecordTakenError: another process has continued since.
    :raises RecordError: the record cannot be used.
    """
    found = record.read()
    if found is None:
        raise RecordMissingError(
            f"{record.uri} is missing, and {record.parts.uri} too: restore them, or clear the task to begin "
            "again, which creates all reports again"
        )
    head, _ = found
    if (head.attempt, head.stint) != (attempt, stint):
        raise RecordTakenError(
            f"{record.uri} was written by another process: this one stops, so that nothing is created twice"
        )
    return Stint(record, head, record.load(head))


def check_account(stint: Stint, now: Target, knows: Callable[[str], bool], connection: str) -> None:
    """Have a process continue only for the account that its attempt began with.

    :param now: what the connection leads to now.
    :param knows: whether that account knows a report.
    :param connection: its id, for the error.
    :raises RecordAccountError: it is another account, or may be one.
    """
    begun = stint.head.target
    if begun == now:
        return
    if not _is_rotated(begun, now, stint.newest_report, knows):
        raise RecordAccountError(
            f"The batch was begun for account {begun.account}, but the connection {connection!r} is of account "
            f"{now.account} now, so nothing more was created: correct the connection and clear the task to "
            "continue, or clear it as it is to begin again for the other account"
        )


def _read(record: Record) -> _Known:
    found = record.read()
    if found is None:
        return _Known()
    head, content = found
    known = _Known(head, Log(record.parts, head.stint + 1))
    if head.state == COMPLETE:
        known.begun = record.manifest_items(content)
    else:
        state = record.load(head)
        for entry in known.log.recover() if known.log else ():
            state.apply(entry["items"], entry["cursor"])
        latest = {item.index: item for item in record.segments(head)}
        latest.update(state.fresh)
        latest.update(state.live)
        known.begun = list(latest.values())
        known.waiting = record.planned(head, state.cursor)
    if head.dropped:
        for group in record.parts.get(head.dropped):
            target = Target(*group["target"])
            known.dropped += [(target, Item.from_part(part)) for part in group["items"]]
    gone = {item.index for _, item in known.dropped}
    known.begun = [item for item in known.begun if item.index not in gone]
    return known


def _begin(record: Record, attempt: Attempt, known: _Known) -> Stint:
    before = known.head.target if known.head else attempt.target
    if before != attempt.target and _is_rotated(
        before, attempt.target, lambda: newest_report(known.begun), attempt.is_same_account
    ):
        known.dropped = [(attempt.target if target == before else target, item) for target, item in known.dropped]
        before = attempt.target
    there = [*known.begun, *known.waiting] if before == attempt.target else []
    others = [] if before == attempt.target else [(before, item) for item in known.begun]
    again = {item.index: item for target, item in known.dropped if target == attempt.target}
    next_index = known.head.next_index if known.head else 0
    # Those that are in the list still come last, so that they count where an earlier list had the same.
    found = reconcile(attempt.planned, [*again.values(), *there], next_index)
    check_keys(found.items, attempt.place, attempt.keys)
    _reset(found.items, again, attempt)
    state = BatchState(requested=len(found.items))
    begun = {item.index for item in known.begun} | set(again)
    finished = [item for item in found.items if item.is_finished]
    waiting = [item for item in found.items if not item.is_finished and item.index not in begun]
    live = [item for item in found.items if not item.is_finished and item.index in begun]
    state.live = {item.index: item for item in live}
    state.planned = len(waiting)
    for item in finished:
        state.counts.add(item)
    attempt.check(state.pending().creates, state.unfinished)
    dropped = [*others, *[(t, i) for t, i in known.dropped if t != attempt.target]]
    dropped += [(attempt.target, item) for item in found.dropped if item.index in begun]
    head = Head(
        owner=record.owner,
        target=attempt.target,
        attempt=record.parts.token,
        deadline=attempt.deadline,
        requested=len(found.items),
        next_index=found.next_index,
        planned=len(waiting),
        claims=any(map(is_late, found.items)),
        settings=dict(attempt.settings),
        counts=state.counts.to_dict(),
    )
    return _write(record, head, state, known, finished=finished, waiting=waiting, dropped=dropped)


def _write(
    record: Record,
    head: Head,
    state: BatchState,
    known: _Known,
    *,
    finished: list[Item],
    waiting: list[Item],
    dropped: list[tuple[Target, Item]],
) -> Stint:
    if known.head is not None and known.log is not None:
        if known.head.state == COMPLETE:
            known.log.recover()
        # From here on, a process that was given up for lost is refused.
        known.log.bar()
        head.stint = known.log.stint
    head.plan = record.put_items("plan", waiting)
    head.segments = record.put_items("segment", finished)
    if state.live:
        head.snapshot, size = record.parts.put("snapshot", [item.to_part() for item in state.live.values()])
        head.sizes = [size, 0]
    if dropped:
        head.dropped, _ = record.parts.put("dropped", _grouped(dropped))
    if head.claims and known.head is not None and not known.head.claims:
        claim_stored(record.parts, finished)
    if head.claims:
        claim_delivered(record.parts, finished, [*state.live.values(), *waiting], head.target.bucket)
    record.write_head(head)
    return Stint(record, head, state)


def _grouped(dropped: Iterable[tuple[Target, Item]]) -> list[dict[str, Any]]:
    groups: dict[Target, list[dict[str, Any]]] = {}
    for target, item in dropped:
        groups.setdefault(target, []).append(item.to_part())
    return [
        {"target": [target.account, target.application, target.bucket], "items": items}
        for target, items in groups.items()
    ]


def _is_rotated(
    before: Target, now: Target, newest: Callable[[], str | None], knows: Callable[[str], bool]
) -> bool:
    """Tell whether only the refresh token has changed since: the account knows the newest report still."""
    if (before.application, before.bucket) != (now.application, now.bucket):
        return False
    report_id = newest()
    if report_id is None or not knows(report_id):
        return False
    log.info("The refresh token is another one, but of the same account: continuing")
    return True


def _reset(items: Sequence[Item], again: Collection[int], attempt: Attempt) -> None:
    """Have each item as this attempt is to begin with it.

    :param again: indexes of those that an earlier list had, but the last one had not.
    """
    stored = [item for item in items if item.is_stored and item.index not in again]
    missing = {item.index for item in attempt.missing(stored)} if stored else set()
    for item in items:
        if item.index in again or item.index in missing:
            # Of those that are in the list again, another item may have replaced the object since.
            item.forget_objects()
        item.reset_for_retry()
    _take_delivered(items, missing, attempt)
    refuse_delivered_keys(items, attempt.target.bucket, attempt.keys)


def _take_delivered(items: Sequence[Item], missing: Collection[int], attempt: Attempt) -> None:
    """Finish what an earlier batch has delivered, unless a report of it is under way.

    A request that a lost process may have sent needs no report either, once it is delivered.

    :param missing: indexes of those that this batch had stored.
    """
    # What an earlier attempt found delivered may have been deleted or forgotten since.
    asked = [item for item in items if item.already_delivered or item.to_create or item.index in missing]
    found = attempt.delivered(asked) if asked else {}
    for item in asked:
        if item.identity in found:
            item.stored_at, item.sent_at = item.stored_at or time.time(), None
            item.objects, item.already_delivered = found[item.identity], True
        elif item.already_delivered:
            item.forget_objects()
