"""What became of the requests of a run, and of the documents that they were to bring."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from airflow_provider_amzbiz.feed.arrivals import reason_of_missing
from airflow_provider_amzbiz.feed.lines import iso
from airflow_provider_amzbiz.feed.plan import Plan
from airflow_provider_amzbiz.feed.requests import FeedRequest
from airflow_provider_amzbiz.feed.rows import Outcome, Stored

_NOT_TRIED = "its report was not created in this run"


class Outcomes:
    """The outcomes of a run's requests.

    :param outcomes: by the number of the request in the plan, for all that were due.
    """

    def __init__(self, plan: Plan, outcomes: Mapping[int, Outcome]) -> None:
        self._plan = plan
        self._outcomes = outcomes
        self._arrivals: dict[int, set[int]] = {}

    def counts(self) -> dict[str, int]:
        """Return how many requests there were, how they ended, and the bytes that were stored."""
        requests = self._plan.requests
        due = [self._outcome(number) for number in self._plan.due]
        stored = [each for each in due if each.objects is not None]
        landed = [each for each in stored if not each.already_delivered]
        skipped = sum(each.objects is None and each.skipped for each in due)
        return {
            "requested": len(requests),
            "landed": len(landed),
            "already_delivered": len(requests) - len(due) + len(stored) - len(landed),
            "failed": len(due) - len(stored) - skipped,
            "skipped": skipped,
            "bytes": sum(described["bytes"] for each in landed for described in each.objects or ()),
        }

    def failure(self, document: int) -> tuple[str, str, str] | None:
        """Return type and number of a document that was not delivered, and why; None where it was."""
        found = self._plan.documents[document]
        if found["delivered"] is not None:
            return None
        reason = found["refused"]
        if found["request"] is not None:
            reason = self._request_failure(found["request"], document)
            if reason is None:
                return None
        return found["document_type"], found["number"], f"{found['document_type']} {found['number']}: {reason}"

    def stored(self) -> Iterator[Stored]:
        """Yield what this run has stored, and what earlier ones have that never wrote their tables."""
        for number, request in enumerate(self._plan.requests):
            documents = [self._plan.documents[each] for each in request.documents]
            if request.is_due:
                outcome = self._outcome(number)
                if outcome.objects is None:
                    yield from _stored_before([each for each in documents if each["delivered"]])
                else:
                    yield Stored(
                        documents,
                        outcome.objects,
                        request.options,
                        outcome.report_id,
                        outcome.report_document_id,
                        iso(outcome.fetched_at),
                        request.is_again,
                        request.earlier,
                    )
                continue
            yield from _stored_before(documents)
            if request.earlier:
                yield _replaced_before(documents, request)

    def rows_for_others(self, run: str, uris: Collection[str]) -> Mapping[str, list[str]]:
        """Return the documents of other runs' deliveries that this one has written rows of: identities by run.

        :param run: this one.
        :param uris: of the objects that it has written rows of.
        """
        found: dict[str, list[str]] = {}
        for document in self._plan.documents.values():
            delivery = document["delivered"]
            if document["has_row"] or not delivery or delivery["by"] in ("", run):
                continue
            if all(uri in uris for uri in _uris(delivery)):
                found.setdefault(delivery["by"], []).extend(document["identities"])
        return found

    def _outcome(self, number: int) -> Outcome:
        return self._outcomes.get(number) or Outcome(reason=_NOT_TRIED)

    def _request_failure(self, number: int, document: int) -> str | None:
        """Return why a request did not bring one of its documents, None where it did."""
        outcome = self._outcome(number)
        if outcome.objects is None:
            return outcome.reason or _NOT_TRIED
        if outcome.already_delivered or document in self._arrived(number):
            return None
        documents = [self._plan.documents[each] for each in self._plan.requests[number].documents]
        return reason_of_missing(outcome.objects, documents)

    def _arrived(self, number: int) -> set[int]:
        if number not in self._arrivals:
            self._arrivals[number] = self._plan.arrived(number, self._outcome(number).objects or ())
        return self._arrivals[number]


def _stored_before(documents: Sequence[Mapping[str, Any]]) -> Iterator[Stored]:
    """Yield what runs delivered that have never written their tables, the last delivery first.

    A later one may have stored the objects of an earlier one again. These have one row, that of the last.
    """
    left = [
        # All of these objects are theirs: none is told from them as older.
        (each["delivered"], {**each, "delivered": None, "previous": None})
        for each in documents
        if not each["has_row"]
    ]
    left.sort(key=lambda each: each[0]["delivered_at"], reverse=True)
    uris: set[str] = set()
    while left:
        delivery, _ = left[0]
        brought = _uris(delivery)
        yield Stored(
            [document for each, document in left if _uris(each) & brought],
            **_delivered(delivery),
            has_row=frozenset(uris),
        )
        uris |= brought
        left = [each for each in left if not _uris(each[0]) <= uris]


def _uris(delivery: Mapping[str, Any]) -> set[str]:
    return {each["uri"] for each in delivery["objects"]}


def _replaced_before(documents: Sequence[Mapping[str, Any]], request: FeedRequest) -> Stored:
    """Return what a run replaced before it ended without its tables, where the documents have rows already."""
    return Stored(
        [{**each, "has_row": True} for each in documents],
        **_delivered(documents[0]["previous"]),
        earlier=request.earlier,
    )


def _delivered(delivery: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "objects": delivery["objects"],
        "options": delivery["report_options"],
        "report_id": delivery["report_id"] or None,
        "report_document_id": delivery["report_document_id"] or None,
        "fetched_at": delivery["delivered_at"],
        "is_again": True,
    }
