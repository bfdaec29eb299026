"""What a run found, frozen in S3: a retry, a cleared task and another worker continue with the same."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from airflow_provider_amzbiz.client.errors import AccessDeniedError, NotFoundError, RequestRejectedError
from airflow_provider_amzbiz.client.invoice_options import INVOICE_TYPE
from airflow_provider_amzbiz.client.request import ReportRequest
from airflow_provider_amzbiz.feed.arrivals import arrived
from airflow_provider_amzbiz.feed.collect import Api
from airflow_provider_amzbiz.feed.documents import Form
from airflow_provider_amzbiz.feed.earlier_runs import EarlierRuns
from airflow_provider_amzbiz.feed.lines import iso, open_key
from airflow_provider_amzbiz.feed.names import DOCUMENT_TYPES, INVOICE
from airflow_provider_amzbiz.feed.requests import DocumentEntry, FeedRequest, Requests
from airflow_provider_amzbiz.feed.spool import Spool
from airflow_provider_amzbiz.feed.state import FeedState, RunFolder

log = logging.getLogger(__name__)

_NOBODY = {"buyer": None, "payer": None}


class Plan:
    """The documents and requests of a run, and its lines, which are read as a stream.

    :ivar requests: all, also those whose documents were delivered before.
    :ivar documents: by number in the run.
    """

    def __init__(self, folder: RunFolder, content: Mapping[str, Any]) -> None:
        self._folder = folder
        self._lines: Sequence[str] = content["lines"]
        self._kept: Sequence[str] = content["kept"]
        self._retracted: Sequence[str] = content["retracted"]
        self.latest_feed_date: str | None = content["latest_feed_date"]
        self.requests = [FeedRequest(**each) for each in folder.read_lines(content["requests"])]
        self.documents: dict[int, DocumentEntry] = {
            each["id"]: each for each in folder.read_lines(content["documents"])
        }

    def lines(self) -> Iterator[dict[str, Any]]:
        """Yield the lines: ``line``, ``fresh``, ``documents`` (number and own), ``reason`` and ``marks``."""
        return self._folder.read_lines(self._lines)

    @property
    def due(self) -> list[int]:
        """The numbers of the requests to create."""
        return [number for number, request in enumerate(self.requests) if request.is_due]

    def fingerprint(self, number: int) -> str:
        """Return the fingerprint of a request, by which a batch knows it."""
        request = self.requests[number]
        return ReportRequest.of(INVOICE_TYPE, [request.marketplace_id], report_options=request.options).fingerprint

    def identities(self, number: int) -> list[str]:
        """Return what the ledger knows the documents of a request by: it is delivered when all of them are."""
        documents = (self.documents[each] for each in self.requests[number].documents)
        found = [name for each in documents for name in (*each["identities"], each["request_identity"]) if name]
        return list(dict.fromkeys(found))

    def arrived(self, number: int, objects: Sequence[Mapping[str, Any]]) -> set[int]:
        """Return which documents of a request its objects are."""
        return arrived(objects, [self.documents[each] for each in self.requests[number].documents])

    def brought(self, number: int, objects: Sequence[Mapping[str, Any]]) -> list[str]:
        """Return what the ledger is to know as delivered, once a request has brought these objects."""
        documents = (self.documents[each] for each in self.arrived(number, objects))
        return list(dict.fromkeys(name for each in documents for name in each["identities"]))

    def request_identity(self, number: int) -> str | None:
        """Return what the ledger knows a request by whose documents are not known beforehand; None for others."""
        return self.documents[self.requests[number].documents[0]]["request_identity"]  # type: ignore[no-any-return]

    def kept(self) -> Iterator[dict[str, Any]]:
        """Yield rows that earlier runs have written, and that still hold."""
        return self._folder.read_lines(self._kept)

    def retracted(self) -> Iterator[dict[str, Any]]:
        """Yield rows that earlier runs have written, and that are wrong now."""
        return self._folder.read_lines(self._retracted)

    def batch_requests(self) -> list[dict[str, Any]]:
        """Return the requests to create, as a batch takes them."""
        return [self.requests[number].to_batch() for number in self.due]


def write_plan(
    folder: RunFolder, state: FeedState, spool: Spool, documents: Sequence[DocumentEntry], api: Api, key: str
) -> Mapping[str, Any]:
    """Write what a run found, and return the frozen plan: this one, or that of another process of the run."""
    requests = Requests()
    runs = EarlierRuns(state)
    for document in documents:
        document["request"] = requests.add(document)
        document["has_row"] = runs.has_row(document)
    requests.complete(key, runs)
    _add_payments(api, [each for each in documents if each["request"] is not None and not each["delivered"]])
    content = {
        "requests": folder.write_lines("requests", (request.to_dict() for request in requests.all)),
        "documents": folder.write_lines("documents", documents),
        "lines": folder.write_lines("lines", _planned(spool)),
        "kept": folder.write_lines("kept", spool.kept()),
        "retracted": folder.write_lines("retracted", spool.retracted()),
        "latest_feed_date": spool.latest_feed_date(),
    }
    due = sum(request.is_due for request in requests.all)
    log.info(
        "%s transactions have %s documents: %s requests bring them, %s of which were delivered before",
        spool.counts()["transactions"],
        len(documents),
        len(requests.all),
        len(requests.all) - due,
    )
    return folder.write_once("plan", content)[0]


def carry_over(spool: Spool, records: Iterable[Mapping[str, Any]], *, include_personal_data: bool = False) -> None:
    """Take over the open lines of earlier runs.

    :param include_personal_data: keep buyer and payer, which a run with other settings may have left there.
    """
    for record in records:
        if "written" in record:
            spool.add_written(record["written"])
            continue
        line = record["line"]
        spool.carry(line if include_personal_data else {**line, **_NOBODY})
        marketplace, order_id, line_id, shipment_id, document_type, transaction_id = record["key"]
        key = (marketplace, order_id, line_id, shipment_id, document_type, transaction_id)
        spool.mark(key, line["transaction_id"], record["first_asked"], record["asked"])


def _planned(spool: Spool) -> Iterator[dict[str, Any]]:
    for line, fresh, _ in spool.lines():
        marks = {kind: spool.marked(open_key(line, kind), line["transaction_id"]) for kind in DOCUMENT_TYPES}
        yield {
            "line": line,
            "fresh": fresh,
            "documents": spool.sources(line),
            "reason": spool.reason(line),
            "marks": {kind: mark for kind, mark in marks.items() if mark},
        }


def _add_payments(api: Api, documents: Sequence[DocumentEntry]) -> None:
    """Add status and due date of invoices, as far as Amazon tells them: they are extra, and no reason to fail."""
    by_number: dict[str, list[DocumentEntry]] = {}
    for document in documents:
        if document["document_type"] == INVOICE and document["form"] != Form.SUMMARY:
            by_number.setdefault(document["number"], []).append(document)
    if not by_number:
        return
    try:
        for each in api.get_invoice_payment_details(list(by_number)):
            if (payment := each.payment_details) is None:
                continue
            for document in by_number.get(each.invoice_id or "", ()):
                document |= {"payment_status": payment.status, "due_date": iso(payment.due_date)}
    except (AccessDeniedError, NotFoundError, RequestRejectedError) as error:
        log.warning("The columns payment_status and due_date stay empty: %s", error)


def label_of(task: Mapping[str, Any]) -> str:
    """Return what a task's run is known by.

    :param task: ``dag_id``, ``run_id``, ``task_id`` and ``map_index``, and in a loop ``loop``.
    """
    mapped = "" if task.get("map_index", -1) < 0 else f"/{task['map_index']}"
    iteration = f"/{task['loop']}" if "loop" in task else ""
    return f"{task['dag_id']}/{task['run_id']}/{task['task_id']}{mapped}{iteration}"


def parse(value: str) -> datetime:
    """Read a time that :func:`.iso` wrote."""
    return datetime.fromisoformat(value)
