"""What earlier runs have written of a request that is made again: its key, and the rows of its files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from airflow_provider_amzbiz.feed.arrivals import CONTENT, match
from airflow_provider_amzbiz.feed.requests import DocumentEntry, FeedRequest, scope_of
from airflow_provider_amzbiz.feed.rows import about
from airflow_provider_amzbiz.feed.state import FeedState


class EarlierRuns:
    """The plans of earlier runs, each read once."""

    def __init__(self, state: FeedState) -> None:
        self._state = state
        self._plans: dict[str, Mapping[str, Any] | None] = {}
        self._requests: dict[str, dict[tuple[str, ...], Mapping[str, Any]]] = {}
        self._documents: dict[str, dict[int, Mapping[str, Any]]] = {}
        self._has_tables: dict[str, bool] = {}
        self._rows: dict[str, Mapping[str, str]] = {}

    def has_tables(self, run: str) -> bool:
        """Tell whether a run has written its tables."""
        if run not in self._has_tables:
            done = self._state.existing(run).read("done") if run else None
            self._has_tables[run] = bool(done and done[0]["result"]["tables"])
        return self._has_tables[run]

    def has_row(self, document: DocumentEntry) -> bool:
        """Tell whether a document has its row: from the run that delivered it, or from one that found it then."""
        if document["delivered"] is None:
            return False
        by = document["delivered"]["by"]
        return self.has_tables(by) or self._written_for(by).keys() >= set(document["identities"])

    def key(self, run: str, request: FeedRequest) -> str | None:
        """Return the key that a run gave to a request, None where it made none."""
        found = self._request(run, request)
        return found["key"] if found else None

    def files(self, run: str, request: FeedRequest, objects: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Return what the rows of a request's objects say, by URI: ``about`` their documents, and their contents.

        :param run: the last one that made the request.
        :param objects: what the request had brought by then, in all runs.
        """
        found = self._request(run, request)
        files: dict[str, Any] = dict(found["earlier"]) if found else {}
        if not self.has_tables(run):
            # It may have replaced objects, but it has written no rows.
            for writer in filter(self.has_tables, sorted(set(self._written_for(run).values()))):
                files |= self.files(writer, request, objects)
            return files
        if found is None:
            return files
        documents = [self._documents_of(run)[each] for each in found["documents"]]
        for described, document in match(objects, documents):
            uri = described["uri"]
            known = files[uri]["about"] if uri in files else None
            # A run that finds a new document of an order knows only a part of its earlier ones.
            is_news = document is not None and not document["has_row"]
            files[uri] = {
                "about": about(document) if document is not None and (is_news or known is None) else known,
                **{name: described.get(name) for name in CONTENT},
            }
        return files

    def _written_for(self, run: str) -> Mapping[str, str]:
        if run not in self._rows:
            self._rows[run] = self._state.existing(run).rows() if run else {}
        return self._rows[run]

    def _request(self, run: str, request: FeedRequest) -> Mapping[str, Any] | None:
        if run not in self._requests:
            rows = self._lines(run, "requests")
            self._requests[run] = {tuple(scope_of(each["marketplace_id"], each["options"])): each for each in rows}
        return self._requests[run].get(tuple(scope_of(request.marketplace_id, request.options)))

    def _documents_of(self, run: str) -> Mapping[int, Mapping[str, Any]]:
        if run not in self._documents:
            self._documents[run] = {each["id"]: each for each in self._lines(run, "documents")}
        return self._documents[run]

    def _lines(self, run: str, name: str) -> Sequence[Mapping[str, Any]]:
        folder = self._state.existing(run)
        if run not in self._plans:
            found = folder.read("plan")
            self._plans[run] = found[0] if found else None
        plan = self._plans[run]
        return list(folder.read_lines(plan[name])) if plan else ()
